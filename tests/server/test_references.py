from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from fedmedpeft.exchange import Scores
from server.errors import FederationError
from server.federation import run_federation
from server.references import wanted_references
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script


@pytest.mark.parametrize(
    ("mode", "references", "wanted"),
    [
        ("federated", "none", ()),
        ("federated", "local-only", ("local-only",)),
        ("federated", "pooled", ("pooled",)),
        ("federated", "all", ("local-only", "pooled")),
        ("local-only", "none", ("local-only",)),
        ("pooled", "all", ("pooled",)),
    ],
)
def test_which_references(tmp_path: Path, mode: str, references: str, wanted: tuple[str, ...]) -> None:
    assert wanted_references(script.run_config(tmp_path, mode=mode, references=references)) == wanted


def test_every_site_alone_and_one_site_for_all(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, references="all")
    grid = LocalGrid(script.federation_of(config))
    run_federation(config, grid, [].append)
    asked = [message.metadata.dst_node_id for message in grid.log if message.metadata.message_type == "train.reference"]
    assert asked == [11, 12, 13, 11]
    table = _table(config.runs_dir)
    assert [(row["kind"], row["trained_at"], row["tested_on"]) for row in table[:2]] == [
        ("local-only", "site-0", "test"),
        ("local-only", "site-0", "union"),
    ]
    assert [row["tested_on"] for row in table if row["kind"] == "pooled"] == [
        "test/site-0",
        "test/site-1",
        "test/site-2",
        "union",
    ]


@pytest.mark.parametrize(
    ("twist", "reason"),
    [
        (script.changed(scores={}, withheld="test"), "its policy keeps the scores"),
        (script.changed(withheld="test"), "withholds its scores, and sends some"),
        (script.raising, "raised RuntimeError"),
        (script.silent, "no answer within 0.4 s"),  # as long as both rounds
        (script.garbage, "no fields"),
        (script.changed(site="site-2"), "answers as 'site-2'"),
        (script.changed(kind="pooled"), "for 'pooled'"),
        (script.changed(scores={"test": Scores(20, 0.5, {}, [1, 1, 1, 1])}), "do not fit 20 samples"),
    ],
)
def test_a_reference_that_fails_is_recorded_and_stops_nothing(tmp_path: Path, twist: script.Twist, reason: str) -> None:
    config = script.run_config(tmp_path, references="local-only")
    sites = script.federation_of(config)
    sites[12].twists["reference"] = twist
    said: list[str] = []
    run_federation(config, LocalGrid(sites), said.append)
    failed = [row for row in _table(config.runs_dir) if row["trained_at"] == "site-1"]
    assert len(failed) == 1
    assert reason in failed[0]["outcome"]
    assert any("no local-only reference from site-1" in line for line in said)
    summary = json.loads((Path(config.runs_dir) / "run" / "summary.json").read_text())
    assert set(summary["gains"]) == {"site-0", "site-2"}


def test_scores_on_anything_but_known_test_splits_are_dropped(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, references="local-only")
    sites = script.federation_of(config)
    sites[11].twists["reference"] = script.changed(scores={"test": script.scores(7, 3), "=cmd()": script.scores(1, 1)})
    run_federation(config, LocalGrid(sites), [].append)
    assert {row["tested_on"] for row in _table(config.runs_dir)} == {"test", "union"}


@pytest.mark.parametrize("mode", ["local-only", "pooled"])
def test_a_reference_run_visits_nobody(tmp_path: Path, mode: str) -> None:
    config = script.run_config(tmp_path, mode=mode)
    sites = script.federation_of(config)
    directory = run_federation(config, LocalGrid(sites), [].append)
    assert not any(site.visits for site in sites.values())
    assert not (directory.path / "adapter").exists()
    assert list(json.loads((directory.path / "summary.json").read_text())["results"]) == [mode]


def test_a_reference_run_without_a_reference_has_failed(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, mode="pooled")
    sites = script.federation_of(config)
    sites[11].twists["reference"] = script.refusing
    with pytest.raises(FederationError, match="No reference was trained"):
        run_federation(config, LocalGrid(sites), [].append)


def _table(runs_dir: str) -> list[dict[str, str]]:
    with (Path(runs_dir) / "run" / "references.csv").open(newline="") as file:
        return list(csv.DictReader(file))
