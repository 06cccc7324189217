"""What the site's own people may ask of the worker at any time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Status:
    """What the worker does, and what became of the last request.

    Attributes:
        pid: of the worker.
        started, since: seconds since 1970; when the worker started, and when it began what it is doing.
        busy: with which kind of request; empty: with none.
        run, round: last asked for.
        outcome: of the last request: "answered", or the name of a refusal.
        reason: of the refusal.
        seconds: that the last request took.
    """

    pid: int
    started: float
    busy: str = ""
    since: float = 0.0
    run: str = ""
    round: int | None = None
    outcome: str = ""
    reason: str = ""
    seconds: float = 0.0
