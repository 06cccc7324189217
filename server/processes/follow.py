"""Watching one ``flwr run``: its lines while it goes on, and how it really ended."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from server.processes.stream import PlainStream, run_id

_COMPLETED, _FINISHED = "finished:completed", "finished:"
_PAUSE = 2.0
UNKNOWN = "Flower does not say how the run ended"
_DIRECTORY = re.compile(r"Run directory: (/.+)$")


class Follower:
    """One ``flwr run --stream``: shows its lines and afterwards knows how the run ended.

    Args:
        command: to start.
        directory: where.
        environment: of it, and of the questions asked about it afterwards.
        log: gets every line.
        say: gets the lines for a person, or with ``verbose`` every line.
    """

    def __init__(
        self,
        command: list[str],
        directory: Path,
        environment: Mapping[str, str],
        log: Path,
        say: Callable[[str], None],
        verbose: bool,
    ) -> None:
        self.command, self.directory, self.environment = command, directory, environment
        self.log, self.say, self.verbose = log, say, verbose
        self.run_directory: Path | None = None
        """Where the ServerApp said that it writes to."""
        self.run_id: str | None = None
        """The run, as Flower calls it."""
        self._last = ""

    def follow(self) -> None:
        """Until the run ends. On Ctrl-C the run is stopped first."""
        process = subprocess.Popen(
            self.command,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None
        stream = PlainStream()
        try:
            with self.log.open("w", encoding="utf-8") as log:
                for line in process.stdout:
                    log.write(line)
                    log.flush()
                    self._read(line, stream.plain(line))
            process.wait()
        except BaseException:
            self._stop(process)
            raise

    def _read(self, line: str, plain: str | None) -> None:
        self.run_id = self.run_id or run_id(line)
        if plain:
            self._last = plain
            match = _DIRECTORY.search(plain)
            self.run_directory = Path(match[1].strip()) if match else self.run_directory
        if self.verbose:
            self.say(line.rstrip("\n"))
        elif plain is not None:
            self.say(plain)

    def _stop(self, process: subprocess.Popen[str]) -> None:
        if self.run_id is not None:
            self._flwr("stop", self.run_id)
        process.terminate()
        process.wait()

    def status(self, patience: float = 0.0) -> tuple[bool, str]:
        """Whether the run completed, and if not why. ``flwr run`` itself ends with 0 even where the run failed.

        Args:
            patience: seconds to ask again where the server does not answer: a run goes on while a SuperLink that was
                lost is started again, and this waits for its end. 0: ask once.
        """
        if self.run_id is None:
            return False, self._last or "Flower did not start the run"
        deadline = time.monotonic() + patience
        while True:
            run = self._run()
            if run is not None and (not patience or str(run["status"]).startswith(_FINISHED)):
                return run["status"] == _COMPLETED, str(run["status-details"])
            if run is not None:
                deadline = time.monotonic() + patience
            elif time.monotonic() >= deadline:
                return False, UNKNOWN
            time.sleep(_PAUSE)

    def _run(self) -> dict[str, Any] | None:
        """What Flower says of the run; None where it says nothing."""
        try:
            found = json.loads(self._flwr("ls", "--run-id", str(self.run_id), "--format", "json"))["runs"][0]
            return {key: found[key] for key in ("status", "status-details")}
        except (ValueError, KeyError, IndexError):
            return None

    def _flwr(self, *arguments: str) -> str:
        command = ["flwr", *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout
