"""A request that never ends: data on a network mount that is gone, a device that is stuck."""

from __future__ import annotations

import time
from collections.abc import Callable

from clients.deployment.status import Status
from fedmedpeft.exchange import Refusal, SiteError

OVERDUE = 75
"""Exit code of a worker that ended itself because a request lasted too long."""


class LongestRequest:
    """Whether what the worker is at has lasted too long.

    It goes by a clock that nobody sets, and that stands while the machine sleeps; so it knows the time from when it
    first was asked about a request, and must be asked every few seconds meanwhile.

    Args:
        status: what the worker is at.
        seconds: that a request may last; 0: any time.
        clock: seconds.
    """

    def __init__(
        self, status: Callable[[], Status], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = seconds
        self._status, self._clock = status, clock
        self._request: float | None = None
        self._began = 0.0

    def passed(self) -> bool:
        status = self._status()
        request = status.since if status.busy else None
        if request != self._request:
            self._request, self._began = request, self._clock()
        return bool(self.seconds) and request is not None and self._clock() - self._began >= self.seconds

    @property
    def refusal(self) -> SiteError:
        """What the server is told."""
        return SiteError(
            Refusal.UNREACHABLE,
            "the request lasted longer than this site allows (worker.longest-request), and the site's worker was ended",
        )
