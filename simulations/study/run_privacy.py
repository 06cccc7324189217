"""What a run's figures cost in privacy, for tables: epsilon, and what it is per."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_UNTOLD = "?"


@dataclass(frozen=True)
class RunPrivacy:
    """Of one run, or of several of one method.

    Attributes:
        epsilon: the largest that a site told; ``nan`` where none did.
        per: what it is per; of sites that differ all of them.
        private: sites that trained with record-level privacy. sites: of the run.
        of_sites: epsilon of whole sites (``client-privacy``); ``nan`` without.
    """

    epsilon: float = math.nan
    per: tuple[str, ...] = ()
    private: int = 0
    sites: int = 0
    of_sites: float = math.nan

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> RunPrivacy:
        """As a run's ``summary.json`` has it."""
        said, whole = summary.get("privacy") or {}, summary.get("client_privacy") or {}
        units = tuple(sorted({site["unit"] for site in said.values()}))
        epsilons = [site["epsilon"] for site in said.values()]
        return cls(
            _largest(epsilons), units, len(said), len(summary.get("sites", ())), _largest([whole.get("epsilon")])
        )

    @classmethod
    def over(cls, runs: Sequence[RunPrivacy]) -> RunPrivacy:
        """The worst of each."""
        return cls(
            _largest([run.epsilon for run in runs]),
            tuple(sorted({unit for run in runs for unit in run.per})),
            min((run.private for run in runs), default=0),
            max((run.sites for run in runs), default=0),
            _largest([run.of_sites for run in runs]),
        )

    def columns(self) -> dict[str, Any]:
        """Of ``results.csv``."""
        return {
            "epsilon": self.epsilon,
            "epsilon_per": " ".join(self.per),
            "private_sites": self.private or "",
            "site_epsilon": self.of_sites,
        }

    def __str__(self) -> str:
        """A cell of the table; empty without privacy.

        >>> str(RunPrivacy(7.99, ("record",), 2, 3)), str(RunPrivacy(of_sites=4.0)), str(RunPrivacy())
        ('7.99 per record (2 of 3 sites)', '4 per site', '')
        """
        told = []
        if self.per:
            some = "" if self.private == self.sites else f" ({self.private} of {self.sites} sites)"
            told.append(f"{_short(self.epsilon)} per {' or '.join(self.per)}{some}")
        if not math.isnan(self.of_sites):
            told.append(f"{_short(self.of_sites)} per site")
        return ", ".join(told)


def _largest(values: Sequence[float | None]) -> float:
    return max((value for value in values if value is not None and not math.isnan(value)), default=math.nan)


def _short(epsilon: float) -> str:
    return _UNTOLD if math.isnan(epsilon) else f"{epsilon:.3g}" if epsilon < 1000 else f"{epsilon:,.0f}"
