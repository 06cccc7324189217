"""What a process says, into a file that does not grow without end."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

_BYTES, _FILES = 10_000_000, 5
_TAIL = 40
_LONGEST = 4000
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PATIENCE = 2.0


class LogPump:
    """A thread that writes each line of ``stream`` with its time to ``path``, readable by its owner only.

    A new file begins after 10 MB, and five old ones are kept. The process never waits for anything but the disk, and a
    full disk costs lines of the log, not the process.

    Args:
        read: gets every line, without colours.
    """

    def __init__(self, stream: IO[bytes], path: Path, read: Callable[[str], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._stream, self._read = stream, read
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._handler = _PrivateFiles(path, maxBytes=_BYTES, backupCount=_FILES, encoding="utf-8", errors="replace")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._thread = threading.Thread(target=self._pump, name=f"log of {path.stem}", daemon=True)
        self._thread.start()

    def finish(self) -> list[str]:
        """The last lines, once the process has ended and all it said is read."""
        self._thread.join(_PATIENCE)
        return [line for line in self._tail if line.strip()]

    def _pump(self) -> None:
        with self._stream:
            for raw in iter(lambda: self._stream.readline(_LONGEST), b""):
                line = _COLOUR.sub("", raw.decode(errors="replace").rstrip("\r\n"))
                self._tail.append(line)
                self._handler.handle(logging.LogRecord("", logging.INFO, "", 0, line, None, None))
                self._read(line)
        self._handler.close()


class _PrivateFiles(RotatingFileHandler):
    """Its files have mode 0600, and an error while writing is not written about."""

    def _open(self) -> IO[str]:  # type: ignore[override]
        def private(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=private)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        return
