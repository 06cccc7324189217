"""Runs cells in processes of their own: what goes wrong in one cannot reach another, or the study."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from simulations.study.cell import Cell
from simulations.study.cell_directory import CellDirectory, Outcome
from simulations.study.cell_process import ERROR

# A stopped run ends its Flower processes in turn, and waits for each.
_FAREWELL = 40.0


@dataclass(frozen=True)
class Resources:
    """For each site of a run, as for ``fedmedpeft run``; ``in_process``: without Flower's own processes."""

    cpus_per_site: int = 1
    gpus_per_site: float = 0.0
    online: bool = False
    in_process: bool = False

    def arguments(self) -> list[str]:
        given = [f"--cpus-per-site={self.cpus_per_site}", f"--gpus-per-site={self.gpus_per_site}"]
        flags = {"--online": self.online, "--in-process": self.in_process}
        return [*given, *(flag for flag, wanted in flags.items() if wanted)]


@dataclass
class ProcessExecutor:
    """Executes cells of the study in ``study``; several threads may call it at the same time."""

    study: Path
    resources: Resources
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _stopped: bool = False
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, cell: Cell) -> Outcome:
        """Run ``cell`` to its end."""
        directory, began = CellDirectory(self.study, cell), time.monotonic()
        process = self._start(directory)
        if process is None:
            return Outcome("stopped")
        try:
            code = process.wait()
        finally:
            with self._guard:
                self._running.discard(process)
            assert process.stdin is not None
            process.stdin.close()
        seconds = time.monotonic() - began
        return Outcome("" if code == 0 else _reason(directory.log, code), seconds)

    def _start(self, directory: CellDirectory) -> subprocess.Popen[bytes] | None:
        file = directory.prepare()
        command = [sys.executable, "-m", "simulations.study.cell_process", str(file.absolute())]
        with self._guard, directory.log.open("wb") as log:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [*command, *self.resources.arguments()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def stop(self) -> None:
        """End what is running, with all its processes, and start nothing more."""
        with self._guard:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _FAREWELL
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def _reason(log: Path, code: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = next((line.removeprefix(ERROR) for line in reversed(lines) if line.startswith(ERROR)), "")
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return told or f"the process {how}; its log: {log}"
