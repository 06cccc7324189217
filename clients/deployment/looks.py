"""How often one run may have this site's images scored and trained on, whatever states the server sends.

A server chooses the states that it sends. Two of them that differ in what they say of a single image differ in their
counts by that image, so each look at a split tells more of who is in it. An honest run takes one for each round, one at
the end, and a few more where it was interrupted.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.exchange import Refusal, SiteError, VisitRequest

_SPARE = 20
"""Visits beyond one for each round and the last: of rounds that were asked for again, with another state."""
_log = logging.getLogger("fedmedpeft.site")


@dataclass(frozen=True)
class Looks:
    """Of one run, in a file beside what it keeps at the site, so that it counts among the runs that keep something.

    Args:
        path: JSON; made with the run's first visit.
    """

    path: Path

    @classmethod
    def of(cls, runs: Path, run: str) -> Looks:
        """Of ``run``, a plain name, below ``runs``."""
        return cls(runs / run / "looks.json")

    def check(self, request: VisitRequest, identity: bytes, rounds: int) -> None:
        """Whether there may be one more.

        Args:
            request: no repetition of one of the rounds.
            identity: what makes two requests the same one. The same last visit is no second look.
            rounds: of the run.

        Raises:
            SiteError: it is one too many; or another last visit than the one that there was; or the file is damaged.
        """
        visits, tested = self._read()
        if request.last and tested not in ("", identity.hex()):
            raise SiteError(Refusal.REPEATED, "it has tested a state of this run already, and tests one alone")
        most = rounds + 1 + _SPARE
        if visits >= most and not (request.last and tested):
            raise SiteError(
                Refusal.REPEATED, f"it has answered {visits} visits of this run, and answers {most} at most"
            )

    def add(self, request: VisitRequest, identity: bytes) -> None:
        """Count one whose answer is about to leave; if then it does not arrive it has counted all the same."""
        visits, tested = self._read()
        found = {"visits": visits + 1, "tested": identity.hex() if request.last else tested}
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self.path, json.dumps(found) + "\n", mode=0o600)

    def _read(self) -> tuple[int, str]:
        if not self.path.exists():
            return 0, ""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return int(content["visits"]), str(content["tested"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.error("'%s' says how often a run looked here, and is damaged (%s). Restore it.", self.path, error)
            raise SiteError(
                Refusal.STATE, "what it kept of the run is damaged; its log says how to mend that"
            ) from error
