"""A supervisor in the main thread, where signals are, and what a test does in another one meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmedpeft.supervision import Child, Supervisor
from fedmedpeft.supervision.leftovers import wait_until

_PATIENCE = 60.0


class Supervised:
    """``children``, which run while :meth:`run` does.

    Attributes:
        said: lines for a person.
    """

    def __init__(self, folder: Path, *children: Child) -> None:
        self.said: list[str] = []
        self._record = folder / "record.json"
        self._supervisor = Supervisor(children, self.said.append, self._record)

    def run(self, act: Callable[[], None]) -> None:
        """Until ``act`` is done; what it raises is raised here."""
        failures: list[BaseException] = []

        def in_thread() -> None:
            try:
                act()
            except BaseException as failure:
                failures.append(failure)
            finally:
                self._supervisor.stop()

        threading.Thread(target=in_thread, daemon=True).start()
        self._supervisor.run()
        if failures:
            raise failures[0]

    def until(self, *lines: str) -> None:
        """Wait until each line was said."""
        assert wait_until(lambda: all(line in self.said for line in lines), _PATIENCE), self.said

    def until_often(self, line: str, times: int) -> None:
        """Wait until a line was said so often."""
        assert wait_until(lambda: self.said.count(line) >= times, _PATIENCE), self.said

    def of(self, name: str) -> dict[str, Any]:
        """What the record says of a child."""
        told: dict[str, Any] = json.loads(self._record.read_text(encoding="utf-8"))["children"][name]
        return told
