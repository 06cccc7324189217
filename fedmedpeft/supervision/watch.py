"""Whether a process that runs still does its work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fedmedpeft.supervision.child import Child

_UNTIL_READY, _PAUSE = 0.1, 5.0
"""Seconds between two questions: before it was ready, and from then on."""
_LONGEST_LOOK = 15.0


class Watch:
    """Asks ``child`` in a thread of its own, so that nobody else waits for an answer that does not come.

    Args:
        clock: seconds.

    Attributes:
        ready: whether it ever said yes.
        silent: seconds since it last did, once it had. A pause of the whole machine (a laptop that was closed, a
            virtual machine that was stopped) counts as one question without an answer, however long it was.
    """

    def __init__(self, child: Child, clock: Callable[[], float] = time.monotonic) -> None:
        self.ready = False
        self.silent = 0.0
        self._child, self._clock = child, clock
        self._over = threading.Event()
        threading.Thread(target=self._ask, name=f"watch of {child.name}", daemon=True).start()

    @property
    def hung(self) -> bool:
        return self._child.hung_after is not None and self.silent >= self._child.hung_after

    def end(self) -> None:
        self._over.set()

    def _ask(self) -> None:
        while not self._answers():
            if self._over.wait(_UNTIL_READY):
                return
        self.ready = True
        if self._child.hung_after is None:
            return
        before = self._clock()
        while not self._over.wait(_PAUSE):
            answers = self._answers()
            now = self._clock()
            self.silent = 0.0 if answers else self.silent + min(now - before, _LONGEST_LOOK)
            before = now

    def _answers(self) -> bool:
        try:
            return self._child.ready()
        except Exception:  # whatever keeps it from an answer: there is none
            return False
