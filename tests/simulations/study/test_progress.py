from __future__ import annotations

import io

import pytest
from rich.console import Console

from fedmedpeft.config import RunConfig
from simulations.study.cell import Cell
from simulations.study.cell_directory import Outcome
from simulations.study.progress import StudyProgress, duration, time_left


@pytest.mark.parametrize(
    ("seconds", "waiting", "parallel", "left"),
    [
        ({}, {"a": 3}, 1, None),
        ({"a": [10.0]}, {"a": 3}, 1, 30.0),
        ({"a": [10.0]}, {"a": 3}, 2, 15.0),
        ({"a": [10.0]}, {"a": 1}, 8, 10.0),
        ({"a": [10.0, 20.0], "b": [5.0]}, {"a": 1, "b": 2, "c": 1}, 1, 15.0 + 10.0 + 10.0),
        ({"a": [10.0]}, {"a": 0}, 1, 0.0),
    ],
)
def test_time_left(seconds: dict[str, list[float]], waiting: dict[str, int], parallel: int, left: float | None) -> None:
    assert time_left(seconds, waiting, parallel) == (None if left is None else pytest.approx(left))


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7 s"), (61, "1 min 01 s"), (7322, "2 h 02 min")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def _cell(seed: int) -> Cell:
    return Cell(RunConfig(method="head", seed=seed), "")


def test_a_line_per_cell_where_there_is_no_terminal() -> None:
    output = io.StringIO()
    with StudyProgress({"head": 3}, 1, Console(file=output, markup=False, highlight=False)) as progress:
        progress.started(_cell(0))
        progress.ended(_cell(0), Outcome("", 60.0), reused=True)
        progress.started(_cell(1))
        progress.ended(_cell(1), Outcome("no [data]"), reused=False)
    lines = output.getvalue().splitlines()
    assert lines == [
        "cell 1 of 3: head, auto, seed 0, step sizes x1: done in 1 min 00 s (from before), about 2 min 00 s left",
        "cell 2 of 3: head, auto, seed 1, step sizes x1: failed: no [data], about 1 min 00 s left",
    ]


def test_a_terminal_gets_a_bar_with_the_running_cells() -> None:
    output = io.StringIO()
    console = Console(file=output, markup=False, highlight=False, force_terminal=True, width=200)
    with StudyProgress({"head": 3}, 2, console) as progress:
        progress.started(_cell(0))
        progress.started(_cell(1))
    assert "cell 1 of 3: head, auto, seed 0, step sizes x1; head, auto, seed 1" in output.getvalue()
