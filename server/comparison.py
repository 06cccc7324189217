"""What no answer shows by itself: answers compared with the site's earlier ones, and with the other sites'."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedmedpeft.exchange import Manifest
from server.quarantine import Vetted
from server.robust_spread import outliers, usual

_REMEMBERED = 50
"""Answers of each site whose hashes are kept."""


@dataclass
class Comparison:
    """Finds answers that are replayed, copied, or of another size than the others.

    Args:
        spread: of :func:`server.robust_spread.outliers`; 0: sizes are not compared.
        among_sites: whether sites are compared with each other. Not with privacy of whole sites: which updates are in
            the mean would depend on what others sent, and the noise covers one site's part alone. There every update is
            clipped to the same norm, which bounds what any site can do.
    """

    spread: float = 0.0
    among_sites: bool = True
    _answered: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)
    """By site: hash of each answer to its round and the hash of what was sent then."""
    _usual: float = 0.0
    """Length of an update in the longest round so far, over the square root of its numbers: not all train the same."""

    def refused(self, round_: int, answers: Mapping[str, Vetted], sent: Mapping[str, str]) -> dict[str, str]:
        """Sites whose answer must not count, and why; all answers are remembered.

        Args:
            round_: of the run.
            answers: vetted one by one, with a state, by site.
            sent: hash of what each site was sent of the tensors that it answered with.
        """
        hashes = {site: vetted.state.hash() for site, vetted in answers.items() if vetted.state}
        refused = self._replayed(hashes, sent)
        for site, hash_ in hashes.items():
            self._remember(site, hash_, round_, sent[site])
        if not self.among_sites:
            return refused
        counts = Counter(hashes.values())
        for site, hash_ in hashes.items():
            if counts[hash_] > 1:
                refused.setdefault(site, "sends the very state that another site sends, so neither counts")
        return refused | self._odd({site: v for site, v in answers.items() if site not in refused})

    def state(self) -> dict[str, Any]:
        """What a run that goes on later must know, as plain values."""
        answered = {
            site: {hash_: list(when) for hash_, when in known.items()} for site, known in self._answered.items()
        }
        return {"answered": answered, "usual": self._usual}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self._usual = float(state["usual"])
        self._answered.clear()
        for site, known in state["answered"].items():
            self._answered[site] = {hash_: (int(round_), str(sent)) for hash_, (round_, sent) in known.items()}

    def _replayed(self, hashes: Mapping[str, str], sent: Mapping[str, str]) -> dict[str, str]:
        """The same answer to the same state may be honest: training is deterministic, and a round may be repeated."""
        refused = {}
        for site, hash_ in hashes.items():
            before = self._answered.get(site, {}).get(hash_)
            if before and before[1] != sent[site]:
                refused[site] = f"sends back its state of round {before[0]}"
        return refused

    def _remember(self, site: str, hash_: str, round_: int, sent: str) -> None:
        known = self._answered.setdefault(site, {})
        known.setdefault(hash_, (round_, sent))
        if len(known) > _REMEMBERED:
            del known[next(iter(known))]

    def _odd(self, answers: Mapping[str, Vetted]) -> dict[str, str]:
        """Sites whose update is of another size, each compared with those of the same tensors."""
        groups: dict[Manifest, dict[str, float]] = {}
        for site, vetted in answers.items():
            if vetted.state:
                groups.setdefault(vetted.state.manifest, {})[site] = vetted.length
        refused: dict[str, str] = {}
        before = self._usual
        for manifest, lengths in groups.items():
            scale = math.sqrt(manifest.numel())
            refused |= outliers(lengths, self.spread, before * scale)
            self._usual = max(self._usual, usual(lengths.values(), before * scale) / scale)
        return refused
