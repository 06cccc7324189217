"""Processes that outlived who started them: how they are found again, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

_INSISTENCE = 4.0
_PAUSE = 0.1


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
    if not wait_until(lambda: not find(), patience):
        for sign in (signal.SIGTERM, signal.SIGKILL):
            _signal(find(), sign)
            if wait_until(lambda: not find(), _INSISTENCE):
                break


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether ``condition`` holds within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _signal(pids: list[int], sign: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            continue
