"""The commands that people would give on their machines, each a process whose lines are told, and their end."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from clients.processes.site_processes import MARKER as OF_A_SITE
from fedmedpeft.supervision.leftovers import end_processes, processes_with, wait_until
from server.processes.start_command import MARKER as OF_A_SERVER
from simulations.poc.errors import PocError
from simulations.poc.stage import Stage
from simulations.poc.teller import Teller

MARKER = "FEDMEDPEFT_POC"
"""In the environment of all processes, but for those that a site starts with an environment of its own."""
_COMMAND = (sys.executable, "-P", "-c", "from fedmedpeft.cli import main; main()")
_FAREWELL = 20.0
_INSISTENCE = 10.0
_PAUSE = 0.05


class Operated:
    """A ``fedmedpeft`` command that somebody gave, and what they read.

    Args:
        who: gave it, for the log.
        arguments: after ``fedmedpeft``.
        environment: of it.
        teller: gets its lines.
    """

    def __init__(self, who: str, arguments: Sequence[str], environment: dict[str, str], teller: Teller) -> None:
        self.who = who
        self.lines: list[str] = []
        teller.say(f"$ fedmedpeft {shlex.join(arguments)}", who)
        self._process = subprocess.Popen(
            [*_COMMAND, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the one who watches; what follows has an order
        )
        self._reader = threading.Thread(target=self._read, args=(teller,), daemon=True)
        self._reader.start()

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def finish(self) -> int:
        """Its exit code, once it has ended and all it said is read."""
        code = self._process.wait()
        self._reader.join(_INSISTENCE)
        return code

    def said(self, text: str) -> bool:
        """Whether one of its lines so far has ``text`` in it."""
        return any(text in line for line in list(self.lines))

    def signal(self, sign: signal.Signals) -> None:
        """To this process; what it started is its own to end."""
        if self.ended() is None:
            self._process.send_signal(sign)

    def kill(self) -> None:
        """``kill -9`` of this process alone; it is gone when this returns."""
        self._process.kill()
        self._process.wait()

    def _read(self, teller: Teller) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.strip():
                teller.say(line.rstrip("\n"), self.who)


class Company:
    """Everything that was started for one showing; at its end nothing of that is left.

    Args:
        stage: what lies on the disk.
        directory: of the showing, by which its processes are known.
        teller: gets what they say.
    """

    def __init__(self, stage: Stage, directory: Path, teller: Teller) -> None:
        self._stage, self._teller = stage, teller
        self._everyone = f"{MARKER}={directory}"
        self._environment = {**os.environ, MARKER: str(directory), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self._all: list[Operated] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for operated in self._all:
            operated.signal(signal.SIGTERM)
        wait_until(lambda: all(operated.ended() is not None for operated in self._all), _FAREWELL)
        end_processes(self._left, 0.0)

    def start(self, who: str, *arguments: str) -> Operated:
        """Give one command."""
        operated = Operated(who, arguments, self._environment, self._teller)
        self._all.append(operated)
        return operated

    def stop(self, operated: Operated) -> None:
        """As its operator would, with Ctrl-C or by the service manager. Raises PocError where that does not end it."""
        operated.signal(signal.SIGTERM)
        if not wait_until(lambda: operated.ended() is not None, _FAREWELL):
            raise PocError(f"'{operated.who}' did not end within {_FAREWELL:g} s after it was asked to.")

    def kill_site(self, name: str, operated: Operated) -> int:
        """``kill -9`` of all processes of a site at once, as a power failure would; how many they were.

        Raises:
            PocError: one does not end, or is started again.
        """
        return self._kill(operated, f"{OF_A_SITE}={self._stage.site(name).state_directory}")

    def kill_server(self, operated: Operated) -> int:
        """The same for the server: SuperLink, SuperExec and ServerApp."""
        return self._kill(operated, f"{OF_A_SERVER}={self._stage.server.state}")

    def _kill(self, operated: Operated, marker: str) -> int:
        operated.kill()  # first, or it would start the others again
        killed: set[int] = set()
        deadline = time.monotonic() + _INSISTENCE
        while pids := processes_with(marker):
            if time.monotonic() > deadline:
                raise PocError(f"'{operated.who}' has processes that do not end with kill -9: {pids}.")
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed |= set(pids)
            time.sleep(_PAUSE)
        operated.finish()
        return 1 + len(killed)

    def _left(self) -> list[int]:
        """Whatever of the showing still runs."""
        files = [*self._stage.sites.values(), *([self._stage.intruder] if self._stage.intruder else [])]
        markers = [self._everyone, *(f"{OF_A_SITE}={path.parent / 'state'}" for path in files)]
        return [pid for marker in markers for pid in processes_with(marker)]
