"""A local SuperLink that belongs to one launch, and takes everything that it started with it when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import tomli_w

_STARTUP = 60.0
_FAREWELL = 8.0
_PAUSE = 0.1


class LaunchError(RuntimeError):
    """Flower could not be started, or the run failed. The message is one line and says where the log is."""


class LocalSuperLink:
    """Context manager around ``flower-superlink --simulation`` on a free port, with its state in memory.

    Args:
        home: the launch's FLWR_HOME; ``config.toml`` there is made to point to this SuperLink and to no other.
        directory: where it runs. Flower's simulator imports apps from here first, so it must be empty.
        environment: of all its processes, with FLWR_HOME, by which they are found again.

    Raises:
        LaunchError: it does not come up within a minute.
    """

    def __init__(self, home: Path, directory: Path, environment: Mapping[str, str]) -> None:
        self.home, self.directory, self.environment = home, directory, dict(environment)
        self.log = home / "superlink.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        port = _free_port()
        connection = {"address": f"127.0.0.1:{port}", "insecure": True}
        content = tomli_w.dumps({"superlink": {"default": "launch", "launch": connection}})
        (self.home / "config.toml").write_text(content, encoding="utf-8")
        command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(port)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the SuperLink, then whatever of this launch does not end with it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_FAREWELL)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        # Flower's and Ray's processes watch their parents and leave by themselves, given a moment.
        marker = f"FLWR_HOME={self.home}"
        end_processes(lambda: processes_with(marker) + processes_in(self.directory), _FAREWELL)

    def _wait_until_healthy(self, port: int) -> None:
        assert self._process is not None
        process = self._process
        up = _wait(lambda: process.poll() is not None or _is_healthy(port), _STARTUP)
        if not up or process.poll() is not None:
            raise LaunchError(f"Flower's SuperLink did not start. Its log: {self.log}")


def processes_with(marker: str) -> list[int]:
    """Ids of this user's processes that have ``NAME=value`` in their environment; empty where there is no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            content = entry.read_bytes()
        except OSError:
            continue
        if marker.encode() in content.split(b"\0"):
            found.append(int(entry.parent.name))
    return [pid for pid in found if pid != os.getpid()]


def processes_in(directory: Path) -> list[int]:
    """Ids of this user's processes that work in ``directory``, even if it is deleted; empty where there is no /proc.

    Ray's own agents write their title over their environment, so this is all that tells whose they are.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            place = str(entry.readlink())
        except OSError:
            continue
        if place.removesuffix(" (deleted)") == str(directory):
            found.append(int(entry.parent.name))
    return [pid for pid in found if pid != os.getpid()]


def end_processes(find: Callable[[], list[int]], patience: float) -> None:
    """Give the processes that ``find`` finds ``patience`` seconds to leave by themselves, then end them."""
    if not _wait(lambda: not find(), patience):
        for sign in (signal.SIGTERM, signal.SIGKILL):
            _signal(find(), sign)
            if _wait(lambda: not find(), _FAREWELL / 2):
                break


def _signal(pids: list[int], sign: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            continue


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_healthy(port: int) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
