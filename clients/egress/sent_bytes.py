"""How much has left a site in each run, in a file, since a run outlives the process that counts."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from clients.egress.refused import EgressRefused
from fedmedpeft.atomic_file import write_atomically

_log = logging.getLogger("fedmedpeft.site")


@dataclass(frozen=True)
class SentBytes:
    """Bytes by run.

    Args:
        path: JSON; made with the first answer that leaves.
    """

    path: Path

    def of(self, run: str) -> int:
        """Raises EgressRefused where the file cannot be read: what is not known may be too much."""
        return self._read().get(run, 0)

    def add(self, run: str, number: int, most: int) -> None:
        """Count what is about to leave; an answer that then does not arrive has counted all the same.

        Raises:
            EgressRefused: it would be more than ``most`` in this run, or the file cannot be read.
        """
        sent = self._read()
        total = sent.get(run, 0) + number
        if total > most:
            raise EgressRefused(f"more bytes in this run than may leave (most-bytes-of-run: {most})")
        write_atomically(self.path, json.dumps(sent | {run: total}, indent=1, sort_keys=True), mode=0o600)

    def _read(self) -> dict[str, int]:
        if not self.path.exists():
            return {}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return {str(run): int(number) for run, number in content.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            _log.error("'%s' says how much has left, and is damaged (%s). Restore it, or delete it.", self.path, error)
            raise EgressRefused("how much has left this site is not known; its log says why") from error
