"""Stopping from outside: Ctrl-C, ``kill`` and a closing terminal are one thing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopped_once(message: str) -> Iterator[None]:
    """Inside, the first such signal says ``message`` and raises KeyboardInterrupt, and the clean-up that follows is not
    interrupted by asking again.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for sign in _STOPPING:
            signal.signal(sign, signal.SIG_IGN)
        typer.echo(message, err=True)
        raise KeyboardInterrupt

    before = {sign: signal.signal(sign, stop) for sign in _STOPPING}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
