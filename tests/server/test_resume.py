"""Which run goes on, and which does not."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.file_lock import locked
from server.errors import FederationError
from server.federation import run_federation
from server.run_state import state_of_run
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script
from tests.server.interruptions import Cut, Cutter, cut, killed, left_behind, run


def cut_off(config: RunConfig, at: int, sites: list[Any] | None = None) -> Path:
    """A run that is cut off at an event."""
    with pytest.raises(Cut), Cutter(at, cut, []).watching():
        run(config, sites or list(script.federation_of(config).values()))
    return Path(config.runs_dir) / "run"


def after_round(config: RunConfig, round_: int) -> Path:
    """A run that is cut off right after the checkpoint of a round."""
    sites = list(script.federation_of(config).values())
    for site in sites:
        site.twists[round_ + 1] = _cutting
    with pytest.raises(Cut):
        run(config, sites)
    return Path(config.runs_dir) / "run"


def _cutting(message: object, reply: object) -> None:
    raise Cut


def go_on(config: RunConfig, **changes: Any) -> tuple[Path, list[str]]:
    said: list[str] = []
    again = config.model_copy(update={"resume": "run", **changes})
    return run(again, list(script.federation_of(config).values()), 101, said.append), said


def test_it_goes_on_after_the_last_round_that_is_whole(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=3)
    path = after_round(config, 2)
    assert state_of_run(path) == "interrupted after round 2"
    _, said = go_on(config)
    assert "Going on after round 2 of 3." in said
    assert state_of_run(path) == "complete"
    lines = (path / "rounds.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["round", "0", "1", "2", "3"]


@pytest.mark.parametrize("mode", ["federated", "local-only"])
def test_before_the_first_checkpoint_it_joins_once_more_in_the_same_directory(tmp_path: Path, mode: str) -> None:
    config = script.run_config(tmp_path, mode=mode, references="local-only")
    path = cut_off(config, 4)
    assert state_of_run(path) == "interrupted before the first round"
    assert go_on(config)[0] == path
    assert sorted(found.name for found in path.parent.iterdir()) == ["run"]
    assert tomllib.loads((path / "config.toml").read_text())["config"]["resume"] == ""


def test_references_are_not_trained_again(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, references="local-only")
    path = after_round(config, 0)
    before = (path / "references.csv").read_bytes()
    _, said = go_on(config)
    assert not [line for line in said if line.startswith("Reference")]
    assert (path / "references.csv").read_bytes() == before
    assert json.loads((path / "summary.json").read_text())["gains"]


def test_a_damaged_checkpoint_costs_a_round_and_nothing_else(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=3, strategy="fedavgm", inbound_factor=10.0)
    whole = left_behind(run(config.model_copy(update={"runs_dir": str(tmp_path / "whole")}), _sites(config)))
    path = after_round(config, 2)
    for suffix in (".safetensors", ".json"):
        file = path / "checkpoints" / f"round-0002{suffix}"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content))
    _, said = go_on(config)
    assert [line for line in said if line.startswith("WARNING: checkpoint round-0002")]
    assert "Going on after round 1 of 3." in said
    assert left_behind(path) == whole


def test_what_a_site_said_before_the_interruption_alone_is_in_the_result(tmp_path: Path) -> None:
    """What it has spent, and what it keeps back: it fails in every round after the first."""
    whole = script.run_config(tmp_path, rounds=3, runs_dir=str(tmp_path / "whole"))
    config = script.run_config(tmp_path, rounds=3)

    def sites(cutting: bool = False) -> list[Any]:
        made = _sites(config)
        made[2].twists = {
            "join": script.changed(private="image"),
            2: script.raising,
            3: script.raising,
            4: script.raising,
        }
        made[2].twists[1] = script.changed(
            private="image", epsilon=2.5, delta=1e-5, loss=math.nan, withheld="val,loss", before={}
        )
        if cutting:
            made[0].twists[3] = _cutting
        return made

    run(whole, sites())
    with pytest.raises(Cut):
        run(config, sites(cutting=True))
    run(config.model_copy(update={"resume": "run"}), sites(), 101)
    left = left_behind(tmp_path / "runs" / "run")
    assert left["summary"]["privacy"]["site-2"]["epsilon"] == 2.5
    assert left == left_behind(tmp_path / "whole" / "run")


def _sites(config: RunConfig) -> list[Any]:
    return list(script.federation_of(config).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resume": "rum"}, "resume='rum': there is no such run in .*Did you mean 'run'?"),
        ({"rounds": 5}, r"rounds=5, it began with 3\. Nothing but device, .* go on with '.*resume.toml'"),
        ({"strategy": "median", "seed": 1}, "strategy='median', it began with 'fedavg'; seed=1, it began with 0"),
        ({"sites": 2}, "sites=2, it began with 3"),
    ],
)
def test_another_run_does_not_go_on(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    config = script.run_config(tmp_path, rounds=3)
    path = after_round(config, 1)
    files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match=message):
        go_on(config, **changes)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == files


def test_what_changes_no_result_may_differ(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=2)
    after_round(config, 1)
    go_on(config, round_timeout=0.3, device="cpu", run_name="", sites=3)


def test_resume_toml_is_the_configuration_to_go_on_with(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=2)
    path = after_round(config, 1)
    again = RunConfig.from_mapping(tomllib.loads((path / "resume.toml").read_text()))
    assert run(again, _sites(config)) == path


def test_a_complete_run_does_not_go_on(tmp_path: Path) -> None:
    config = script.run_config(tmp_path)
    run(config, _sites(config))
    with pytest.raises(ConfigError, match="has come to its end"):
        go_on(config)


def test_two_servers_do_not_write_one_run(tmp_path: Path) -> None:
    config = script.run_config(tmp_path)
    path = after_round(config, 1)
    with locked(path / ".lock", wait=False):
        assert state_of_run(path) == "running"
        with pytest.raises(ConfigError, match="a server is writing"):
            go_on(config)
    assert killed(lambda: go_on(config)) == 0
    assert state_of_run(path) == "complete"


def test_a_run_is_locked_while_it_goes_on(tmp_path: Path) -> None:
    config, seen = script.run_config(tmp_path), []
    sites = _sites(config)
    sites[0].twists[1] = lambda message, reply: seen.append(state_of_run(tmp_path / "runs" / "run"))
    run(config, sites)
    assert seen == ["running"]


def test_a_run_that_failed_goes_on_and_no_longer_counts_as_failed(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=2, min_sites=3)
    sites, path = _sites(config), tmp_path / "runs" / "run"
    sites[1].twists["join"] = script.refusing
    with pytest.raises(FederationError):
        run(config, sites)
    assert state_of_run(path).startswith("failed before the first round: 2 sites can take part")
    with pytest.raises(Cut), Cutter(6, cut, []).watching():
        go_on(config)
    assert state_of_run(path) == "interrupted before the first round"
    go_on(config)
    assert state_of_run(path) == "complete"


def test_another_version_is_told(tmp_path: Path) -> None:
    config = script.run_config(tmp_path)
    file = after_round(config, 1) / "config.toml"
    file.write_text(file.read_text().replace('flwr = "', 'flwr = "0.'))
    assert [line for line in go_on(config)[1] if line.startswith("WARNING: the run began with other versions (flwr 0.")]


def test_a_failed_run_says_how_to_go_on(tmp_path: Path) -> None:
    config, said = script.run_config(tmp_path), []
    sites = script.federation_of(config)

    class Broken(LocalGrid):
        def get_node_ids(self) -> list[int]:
            return list(self.nodes)

        def push_messages(self, messages: Any) -> Any:
            messages = list(messages)
            if messages[0].metadata.group_id == "2":
                raise FederationError("the SuperLink is gone")
            return super().push_messages(messages)

    with pytest.raises(FederationError):
        run_federation(config, Broken(sites), said.append)
    assert said[-2].startswith("The run is interrupted and can go on: ")
    assert said[-2].split("'")[1] == str(tmp_path / "runs" / "run" / "resume.toml")
