"""Several processes, started in order, started again when they end, and ended in reverse order."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.supervision.child import Child, Ending, Running

PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds between an end and the next start, one after the other; the last one stays."""
_WELL = 60.0
_TICK = 0.1
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _Slot:
    """A child, and how it fares."""

    child: Child
    running: Running | None = None
    ready: bool = False
    due: float = 0.0
    ends: int = 0
    in_a_row: int = 0
    said: str = ""


class Supervisor:
    """Keeps ``children`` running until it is stopped (Ctrl-C or SIGTERM; a second one ends all at once).

    Each is started once those before it are ready, and again after it ended, a little later each time; one that ran for
    a minute is as good as new. They are ended last first.

    Args:
        say: gets ``name: sentence`` for a person.
        record: file that tells who runs since when, for commands that ask; removed at the end.
        once: end all as soon as one ends, in place of starting it again.
    """

    def __init__(
        self, children: Sequence[Child], say: Callable[[str], None], record: Path, *, once: bool = False
    ) -> None:
        self._slots = [_Slot(child) for child in children]
        self._say, self._record, self._once = say, record, once
        self._since = time.time()
        self._requests = 0
        self._failed = False
        self._written = ""

    def run(self) -> int:
        """Until it is stopped (0), or with ``once`` until one ended (1)."""
        with self._stopped_by_signals():
            try:
                while not self._requests and not self._failed:
                    for slot in self._slots:
                        self._look_after(slot)
                    self._note()
                    time.sleep(_TICK)
            finally:
                for slot in reversed(self._slots):
                    self._end(slot)
                self._record.unlink(missing_ok=True)
        return int(self._failed)

    def stop(self) -> None:
        """End all of them, from any thread; a second time without patience."""
        self._requests += 1

    def _look_after(self, slot: _Slot) -> None:
        if self._requests or self._failed:
            return
        if slot.running is None:
            if time.monotonic() >= slot.due and self._all_ready_before(slot):
                self._start(slot)
        elif slot.running.ended() is not None:
            self._after(slot, slot.running.ending(), slot.running.seconds)
        elif not slot.ready and slot.child.ready():
            slot.ready = True
            self._say(f"{slot.child.name}: up")
            slot.child.when_ready()

    def _all_ready_before(self, slot: _Slot) -> bool:
        return all(before.ready for before in self._slots[: self._slots.index(slot)])

    def _start(self, slot: _Slot) -> None:
        def say(sentence: str) -> None:
            slot.said = sentence
            self._say(f"{slot.child.name}: {sentence}")

        slot.said = ""
        try:
            slot.running = Running(slot.child, say)
        except OSError as error:
            self._after(slot, Ending(f"cannot be started: {error}"), 0.0)

    def _after(self, slot: _Slot, ending: Ending, seconds: float) -> None:
        """It ended: say so, and plan the next start."""
        slot.running, slot.ready = None, False
        slot.in_a_row = 0 if seconds >= _WELL else slot.in_a_row
        pause = PAUSES[min(slot.in_a_row, len(PAUSES) - 1)] if ending.pause is None else ending.pause
        slot.ends, slot.in_a_row = slot.ends + 1, slot.in_a_row + 1
        slot.due = time.monotonic() + pause
        slot.said = ending.sentence
        self._failed = self._once
        again = "" if self._once else f" Next try in {pause:g} s."
        self._say(f"{slot.child.name}: {ending.sentence.rstrip('.')}.{again}")

    def _end(self, slot: _Slot) -> None:
        if slot.running is not None:
            slot.running.stop(lambda: 0.0 if self._requests > 1 else slot.child.farewell)
            slot.running = None

    def _note(self) -> None:
        content = json.dumps({"pid": os.getpid(), "since": self._since, "children": self._children()}, indent=2)
        if content != self._written:
            self._written = content
            write_atomically(self._record, content, mode=0o600)

    def _children(self) -> dict[str, dict[str, Any]]:
        return {
            slot.child.name: {
                "pid": None if slot.running is None else slot.running.pid,
                "since": None if slot.running is None else slot.running.since,
                "restarts": slot.ends,
                "said": slot.said,
            }
            for slot in self._slots
        }

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self.stop()

        before = {sign: signal.signal(sign, stop) for sign in _STOPPING}
        try:
            yield
        finally:
            for sign, handler in before.items():
                signal.signal(sign, handler)
