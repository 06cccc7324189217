"""Executes the cells of a study that are not done yet. Nothing that happens to one cell stops the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from fedmedpeft.components import ConfigError
from fedmedpeft.file_lock import locked
from simulations.study.cell import Cell
from simulations.study.cell_directory import CellDirectory, Outcome
from simulations.study.plan import Choices, Plan
from simulations.study.search import choose, final_validation


class Watcher(Protocol):
    """Is told what happens, from any thread."""

    def started(self, cell: Cell) -> None: ...

    def ended(self, cell: Cell, outcome: Outcome, *, reused: bool) -> None: ...


def choices(plan: Plan, out: Path) -> dict[tuple[str, str], float]:
    """By method and partition, the scale that its validation scores speak for.

    A pair is missing while one of its scales is still to be run, and where none has a score.
    """
    groups: dict[tuple[str, str], list[CellDirectory]] = {}
    for cell in plan.first():
        groups.setdefault((cell.method, cell.partition), []).append(CellDirectory(out, cell))
    found = {}
    for pair, directories in groups.items():
        if not plan.searches:
            found[pair] = directories[0].cell.scale
        elif all(directory.state() != "open" for directory in directories):
            scored = [directory for directory in directories if directory.state() == "completed"]
            best = choose({d.cell.scale: final_validation(d.run, plan.task.primary)[0] for d in scored})
            if best is not None:
                found[pair] = best
    return found


@dataclass
class StudyRunner:
    """One execution of a study.

    Args:
        plan: what to run.
        out: the study's directory.
        execute: runs one cell to its end, as its name in ``CellDirectory.run``; called from ``parallel`` threads.
        stop: makes all calls of ``execute`` return soon.
        watch: is told what happens.
        retry_failed: run again what failed before.
    """

    plan: Plan
    out: Path
    execute: Callable[[Cell], Outcome]
    watch: Watcher
    stop: Callable[[], None] = lambda: None
    parallel: int = 1
    retry_failed: bool = False
    _stopping: bool = field(default=False, init=False)

    def run(self) -> Choices:
        """Everything that is not done. First the search, then what depends on its outcome, which is returned.

        Raises:
            ConfigError: another process runs this study.
        """
        try:
            with locked(self.out / "lock", wait=False):
                self._all(self.plan.first())
                chosen = choices(self.plan, self.out)
                self._all(self.plan.rest(chosen))
                return chosen
        except BlockingIOError:
            raise ConfigError(f"'{self.out}' is being written by another process. Wait for it, or use --out.") from None

    def _all(self, cells: Sequence[Cell]) -> None:
        open_ = []
        for cell in cells:
            directory = CellDirectory(self.out, cell)
            state = directory.state()
            if state == "completed":
                self.watch.ended(cell, replace(directory.outcome(), reason=""), reused=True)
            elif state == "failed" and not self.retry_failed:
                self.watch.ended(cell, directory.outcome(), reused=True)
            else:
                open_.append(cell)
        with ThreadPoolExecutor(max_workers=self.parallel) as pool:
            futures = [pool.submit(self._one, cell) for cell in open_]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stopping = True
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise

    def _one(self, cell: Cell) -> None:
        if self._stopping:
            return
        directory = CellDirectory(self.out, cell)
        directory.clear()
        self.watch.started(cell)
        try:
            outcome = self.execute(cell)
        except Exception as error:
            outcome = Outcome(f"{type(error).__name__}: {error}")
        if self._stopping:
            # It was interrupted; it did not fail.
            return
        if directory.state() == "completed":
            # What is there counts, also where the process came to grief after it.
            outcome = Outcome("", outcome.seconds)
        elif not outcome.reason:
            outcome = Outcome("the run ended without a complete result", outcome.seconds)
        directory.record(outcome)
        self.watch.ended(cell, outcome, reused=False)
