"""What a run's directory says of how far it has come."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.run_state import HISTORY_FILE, History, state_of_run, states_by_flower_run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)
    return tmp_path / "a"


def test_a_failure_is_told_with_how_far_it_came(path: Path) -> None:
    History(("1",), "too few sites").write(path)
    assert state_of_run(path) == "failed before the first round: too few sites"
    (path / "checkpoints" / "round-0003.json").touch()
    assert state_of_run(path) == "failed after round 3: too few sites"
    (path / "summary.json").touch()
    assert state_of_run(path) == "complete"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"flower_runs": 3, "failure": ""}', "[" * 100_000, "\xff"])
def test_a_history_that_cannot_be_read_is_none(path: Path, content: str) -> None:
    (path / HISTORY_FILE).write_bytes(content.encode("latin-1"))
    assert History.read(path) == History()
    assert state_of_run(path) == "interrupted before the first round"


def test_runs_by_the_ids_that_flower_gave_them(path: Path) -> None:
    History(("11", "12"), "too few sites").write(path)
    (path.parent / "b").mkdir()
    History(("21",)).write(path.parent / "b")
    (path.parent / "c").mkdir()
    History().write(path.parent / "c")
    assert states_by_flower_run(path.parent) == {
        "11": ("a", "went on as 12"),
        "12": ("a", "failed before the first round: too few sites"),
        "21": ("b", "interrupted before the first round"),
    }
    assert states_by_flower_run(path.parent / "nowhere") == {}
