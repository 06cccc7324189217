"""Several processes, started in order, started again when they end or hang, and ended in reverse order."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.supervision.child import CANNOT_END, INSISTENCE, Child, Ending, Running
from fedmedpeft.supervision.watch import Watch

PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)
"""Seconds between an end and the next start, one after the other; the last one stays."""
_WELL = 60.0
_TICK = 0.1
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _Slot:
    """A child, and how it fares.

    Attributes:
        due: when to start it.
        killed: when it was, since it hung; None: it was not.
        after_hang: whether no other has been ready since one that hung.
        ends, in_a_row: how often it ended; without having run for long.
        said: the last sentence about it.
        ended: when and why it last did, for who looks later.
    """

    child: Child
    running: Running | None = None
    watch: Watch | None = None
    ready: bool = False
    due: float = 0.0
    killed: float | None = None
    after_hang: bool = False
    ends: int = 0
    in_a_row: int = 0
    said: str = ""
    ended: dict[str, Any] | None = None


class Supervisor:
    """Keeps ``children`` running until it is stopped (Ctrl-C or SIGTERM; a second one ends all at once).

    Each is started once those before it are ready, and again after it ended, a little later each time; one that ran for
    a minute is as good as new. One that stops answering (:attr:`Child.hung_after`) is killed and counts as one that
    ended. They are ended last first.

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
        if slot.running is None or slot.watch is None:
            if time.monotonic() >= slot.due and self._all_ready_before(slot):
                self._start(slot)
        elif slot.running.ended() is not None:
            ending = slot.running.ending()
            self._after(slot, ending if slot.killed is None else _hung(slot), slot.running.seconds - slot.watch.silent)
        elif slot.killed is not None or slot.watch.hung:
            self._kill(slot)
        elif slot.watch.ready and not slot.ready:
            slot.ready, slot.after_hang = True, False
            self._say(f"{slot.child.name}: up")
            threading.Thread(target=slot.child.when_ready, name=f"{slot.child.name} is up", daemon=True).start()

    def _all_ready_before(self, slot: _Slot) -> bool:
        return all(before.ready for before in self._slots[: self._slots.index(slot)])

    def _start(self, slot: _Slot) -> None:
        slot.said = ""
        try:
            slot.running = Running(slot.child, partial(self._tell, slot), after_hang=slot.after_hang)
            slot.watch = Watch(slot.child)
        except OSError as error:
            self._after(slot, Ending(f"cannot be started: {error}"), 0.0)

    def _kill(self, slot: _Slot) -> None:
        """It hangs; what else is to be done once it has ended follows as after every end."""
        assert slot.running is not None
        now = time.monotonic()
        if slot.killed is None:
            slot.killed = now
            slot.running.kill()
        elif now - slot.killed > INSISTENCE and not slot.said.endswith(CANNOT_END):
            self._tell(slot, f"{_silence(slot)}; {CANNOT_END}")

    def _tell(self, slot: _Slot, sentence: str) -> None:
        slot.said = sentence
        self._say(f"{slot.child.name}: {sentence}")

    def _after(self, slot: _Slot, ending: Ending, seconds: float) -> None:
        """It ended: say so, and plan the next start."""
        if slot.watch is not None:
            slot.watch.end()
        slot.after_hang = slot.after_hang or slot.killed is not None
        slot.running, slot.watch, slot.ready, slot.killed = None, None, False, None
        slot.in_a_row = 0 if seconds >= _WELL else slot.in_a_row
        pause = PAUSES[min(slot.in_a_row, len(PAUSES) - 1)] if ending.pause is None else ending.pause
        slot.ends, slot.in_a_row = slot.ends + 1, slot.in_a_row + 1
        slot.due = time.monotonic() + pause
        slot.said, slot.ended = ending.sentence, {"at": time.time(), "why": ending.sentence}
        self._failed = self._once
        again = "" if self._once else f" Next try in {pause:g} s."
        self._say(f"{slot.child.name}: {ending.sentence.rstrip('.')}.{again}")

    def _end(self, slot: _Slot) -> None:
        if slot.watch is not None:
            slot.watch.end()
        if slot.running is not None:
            if not slot.running.stop(lambda: 0.0 if self._requests > 1 else slot.child.farewell):
                self._say(f"{slot.child.name}: {CANNOT_END}.")
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
                "ended": slot.ended,
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


def _silence(slot: _Slot) -> str:
    return f"did not answer for {slot.child.hung_after:g} s"


def _hung(slot: _Slot) -> Ending:
    return Ending(f"{_silence(slot)}, and was ended")
