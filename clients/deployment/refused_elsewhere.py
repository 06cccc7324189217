"""Refusals of Flower's process, where they reach the site's audit log: the worker is told, and believes little."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from pydantic import ValidationError

from clients.audit_log.events import RequestKind
from clients.deployment.other_code import Told
from fedmedpeft.exchange import Refusal, SiteError

MOST_BYTES = 4096
_MOST, _HOUR = 20, 3600.0
_LAST = "; what follows within the hour is not noted"


class RefusedElsewhere:
    """Notes what it is told, at most 20 times an hour: whoever opens the socket must not be able to fill the disk.

    Args:
        note: writes a refusal into the audit log.
        clock: seconds.
    """

    def __init__(
        self, note: Callable[[RequestKind, SiteError], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._note, self._clock = note, clock
        self._one = threading.Lock()
        self._noted: deque[float] = deque(maxlen=_MOST)

    def take(self, content: bytes) -> bool:
        """Whether ``content`` is what can be told; more than :data:`MOST_BYTES` is not."""
        if len(content) > MOST_BYTES:
            return False
        try:
            told = Told.model_validate_json(content)
        except ValidationError:
            return False
        with self._one:
            now = self._clock()
            within = sum(now - then < _HOUR for then in self._noted)
            if within < _MOST:
                self._noted.append(now)
                reason = told.difference.reason + (_LAST if within == _MOST - 1 else "")
                self._note(told.request, SiteError(Refusal.CODE, reason))
        return True
