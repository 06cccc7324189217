"""A run that was cut off, wherever, and went on ends as one that was not."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.config import RunConfig
from tests.server import scripted_sites as script
from tests.server.interruptions import Cut, Cutter, cut, kill_9, killed, lasting_sites, left_behind, run

CONFIGS: dict[str, dict[str, Any]] = {
    "fedavg": {"references": "local-only"},
    "fedavgm": {"strategy": "fedavgm", "inbound_factor": 10.0},
    "fedadam": {"strategy": "fedadam", "sampling_fraction": 0.6},
    "fedyogi": {"strategy": "fedyogi"},
    "fedadagrad": {"strategy": "fedadagrad"},
    "median": {"strategy": "median", "weighting": "uniform"},
    "rotation": {"method": "sba"},
    "rotation of each site": {"method": "sba(per_site=true)", "sampling_fraction": 0.6},
    "rotation that goes back": {"method": "sba(persist=false)"},
}


def config_of(tmp_path: Path, name: str, **changes: Any) -> RunConfig:
    values = {"rounds": 3, "sampling_fraction": 1.0, **CONFIGS[name], **changes}
    return script.run_config(tmp_path, backbone=str(script.backbone_directory(tmp_path, depth=3)), **values)


def expected(tmp_path: Path, name: str, **changes: Any) -> tuple[dict[str, Any], list[str]]:
    """What the run leaves that nobody cuts off, and the events in it."""
    config, cutter = config_of(tmp_path, name, runs_dir=str(tmp_path / "whole"), **changes), Cutter(None, cut, [])
    with cutter.watching():
        path = run(config, lasting_sites(config, tmp_path / "whole-sites"))
    return left_behind(path), cutter.events


def cut_and_resumed(tmp_path: Path, name: str, at: int, **changes: Any) -> dict[str, Any]:
    """Cut off at one event, then gone on with, over other nodes."""
    config, home = config_of(tmp_path, name, runs_dir=str(tmp_path / f"cut-{at}"), **changes), tmp_path / f"sites-{at}"
    with pytest.raises(Cut), Cutter(at, cut, []).watching():
        run(config, lasting_sites(config, home))
    again = config.model_copy(update={"resume": "run"})
    return left_behind(run(again, lasting_sites(config, home), first_node=101))


@pytest.mark.parametrize("name", list(CONFIGS))
def test_cut_off_at_some_events_of_every_kind_of_run(tmp_path: Path, name: str) -> None:
    whole, events = expected(tmp_path, name)
    # The configuration's own files come first: before these there is no run. After the summary it is complete.
    points = range(2, len(events) - 1)
    for at in list(points)[1 + len(name) % 3 :: len(points) // 3]:
        assert cut_and_resumed(tmp_path, name, at) == whole, f"event {at}, {events[at]}"


def test_cut_off_at_every_event_of_a_run(tmp_path: Path) -> None:
    whole, events = expected(tmp_path, "fedavgm", rounds=2)
    assert {"before sending", "after sending", "before aggregating", "after aggregating", "writing"} == set(events)
    for at in range(2, len(events) - 1):
        assert cut_and_resumed(tmp_path, "fedavgm", at, rounds=2) == whole, f"event {at}, {events[at]}"


@pytest.mark.parametrize("name", ["fedadam", "rotation that goes back"])
def test_killed_again_and_again(tmp_path: Path, name: str) -> None:
    """kill -9, with another server each time that comes a few events further."""
    whole, events = expected(tmp_path, name)
    config, home = config_of(tmp_path, name), tmp_path / "sites"
    for attempt, at in enumerate((len(events) // 3, 9, 14, 20)):
        asked = config.model_copy(update={"resume": "run" if attempt else ""})

        def until_killed(asked: RunConfig = asked, at: int = at, first: int = 100 * attempt + 11) -> None:
            with Cutter(at, kill_9, []).watching():
                run(asked, lasting_sites(config, home), first)

        assert killed(until_killed) == signal.SIGKILL
    done = run(config.model_copy(update={"resume": "run"}), lasting_sites(config, home), 901)
    assert left_behind(done) == whole
