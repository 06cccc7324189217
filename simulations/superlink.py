"""A local SuperLink that belongs to one launch, and takes everything that it started with it when it ends."""

from __future__ import annotations

import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import tomli_w

from fedmedpeft.supervision.leftovers import end_processes, processes_in, processes_with, wait_until

_STARTUP = 60.0
_FAREWELL = 8.0


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
        up = wait_until(lambda: process.poll() is not None or _is_healthy(port), _STARTUP)
        if not up or process.poll() is not None:
            raise LaunchError(f"Flower's SuperLink did not start. Its log: {self.log}")


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
