"""The log of what happens, with times: to the terminal and to a file."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

NARRATOR = "poc"
_CLOCK = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")
_WIDTH = 16
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0a-\x1f\x7f]")


class Teller:
    """Says who said what, and how many seconds after the start. Any thread may.

    Args:
        path: the log file.
        show: takes each line for the terminal.
    """

    def __init__(self, path: Path, show: Callable[[str], None]) -> None:
        self.path, self._show = path, show
        self._began, self._one = time.monotonic(), threading.Lock()
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def say(self, line: str, who: str = NARRATOR) -> None:
        """One line; a clock at its beginning goes, as the log has its own."""
        with self._one:
            text = f"{self.seconds:6.1f} s  {_short(who)}  {_CLOCK.sub('', _CONTROL.sub('', line))}".rstrip()
            self._show(text)
            if not self._file.closed:
                self._file.write(f"{text}\n")
                self._file.flush()


def _short(who: str) -> str:
    return (who if len(who) <= _WIDTH else f"{who[: _WIDTH - 1]}~").ljust(_WIDTH)
