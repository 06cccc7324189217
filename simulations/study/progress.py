"""What a person sees while a study runs: which cell of how many, and the time left."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from simulations.study.cell import Cell
from simulations.study.cell_directory import Outcome

_WIDTH_OF_A_FILE = 200


def time_left(seconds: Mapping[str, Sequence[float]], waiting: Mapping[str, int], parallel: int) -> float | None:
    """Seconds until the end: a method's own mean where one of its cells is finished, else the mean of all.

    Args:
        seconds: of finished cells, by method.
        waiting: number of cells that are not finished, by method.
        parallel: how many run at once.

    Returns:
        None before any cell is finished.

    >>> time_left({"lora": [20.0, 40.0], "head": [10.0]}, {"lora": 2, "full": 3}, 1)
    130.0
    """
    means = {method: sum(times) / len(times) for method, times in seconds.items() if times}
    if not means:
        return None
    overall = sum(means.values()) / len(means)
    work = sum(number * means.get(method, overall) for method, number in waiting.items())
    return work / max(1, min(parallel, sum(waiting.values())))


def duration(seconds: float) -> str:
    """
    >>> duration(4000)
    '1 h 07 min'
    >>> duration(75)
    '1 min 15 s'
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class StudyProgress:
    """A bar on a terminal and a line per finished cell everywhere. A Watcher of the runner, and a context manager.

    Args:
        runs: how many there will be, by method and kind of reference.
        parallel: how many run at once.
    """

    def __init__(self, runs: Mapping[str, int], parallel: int, console: Console | None = None) -> None:
        self._console = console or Console(markup=False, highlight=False)
        if not self._console.is_terminal:
            self._console.width = _WIDTH_OF_A_FILE
        self._waiting, self._total, self._parallel = dict(runs), sum(runs.values()), parallel
        self._done, self._failed = 0, 0
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._running: list[Cell] = []
        self._guard = threading.Lock()
        columns = (TextColumn("{task.description}", markup=False), BarColumn(20), TimeElapsedColumn())
        left = TextColumn("{task.fields[left]}", markup=False)
        self._bar = Progress(*columns, left, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("checking what is done", total=self._total, left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def started(self, cell: Cell) -> None:
        with self._guard:
            self._running.append(cell)
            self._show()

    def ended(self, cell: Cell, outcome: Outcome, *, reused: bool) -> None:
        with self._guard:
            self._done += 1
            self._failed += bool(outcome.reason)
            self._waiting[cell.group] -= 1
            self._running = [other for other in self._running if other != cell]
            if not outcome.reason and outcome.seconds:
                self._seconds[cell.group].append(outcome.seconds)
            how = f"failed: {outcome.reason}" if outcome.reason else f"done in {duration(outcome.seconds)}"
            kept = " (from before)" if reused else ""
            left = self._left()
            self._console.print(
                f"cell {self._done} of {self._total}: {cell.label}: {how}{kept}{f', {left}' if left else ''}",
                soft_wrap=True,
            )
            self._show()

    def _show(self) -> None:
        names = "; ".join(cell.label for cell in self._running)
        number = f"cell {min(self._done + 1, self._total)} of {self._total}"
        failed = f" ({self._failed} failed)" if self._failed else ""
        self._bar.update(
            self._task, completed=self._done, description=f"{number}{failed}: {names}", left=self._left() or ""
        )

    def _left(self) -> str:
        left = time_left(self._seconds, self._waiting, self._parallel)
        return f"about {duration(left)} left" if left else ""
