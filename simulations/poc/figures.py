"""What each round took, and how much of that was not training: from the files that run and sites leave."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.visits import ACCEPTED

Answered = Mapping[str, Mapping[int, Sequence[str]]]
"""Site -> round -> its answers, as the audit log calls them: ``left``, ``repeated``."""
REPEATED = "repeated"
HEADINGS = ("round", "total s", "slowest site", "its own s", "overhead s", "took part", "what happened")


@dataclass(frozen=True)
class RoundFigures:
    """One round.

    Attributes:
        total: seconds at the server, from the first request to the last answer, or to the deadline.
        own: seconds that each site spent on training and evaluation for it; not those of an earlier try.
        took_part: names.
        missing: name -> why.
        repeated: names of those whose answer was that of an earlier try, to the byte.
    """

    round: int
    total: float
    own: Mapping[str, float]
    took_part: tuple[str, ...]
    missing: Mapping[str, str]
    repeated: tuple[str, ...]

    @property
    def slowest(self) -> str:
        """Empty where no site worked."""
        return max(self.own, key=lambda site: self.own[site], default="")

    @property
    def overhead(self) -> float:
        """Total minus the slowest site's own time: processes, messages, waiting."""
        return self.total - self.own.get(self.slowest, 0.0)

    @property
    def disturbed(self) -> bool:
        """Whether a site was missing, or the round asked for twice."""
        return bool(self.missing or self.repeated)


def read_figures(run: Path, answered: Answered) -> list[RoundFigures]:
    """Of every round that trained.

    Args:
        run: its directory.
        answered: by site, from the audit logs.
    """
    rounds, sites = _rows(run / "rounds.csv"), _rows(run / "sites.csv")
    found = []
    for row in rounds:
        number = int(row["round"])
        if number:
            of_it = [site for site in sites if int(site["round"]) == number]
            found.append(_figures(number, float(row["seconds"]), of_it, answered))
    return found


def table_rows(figures: Iterable[RoundFigures], notes: Mapping[int, Sequence[str]]) -> list[list[str]]:
    """Under :data:`HEADINGS`."""
    return [
        [
            str(of.round),
            f"{of.total:.1f}",
            of.slowest or "-",
            f"{of.own[of.slowest]:.1f}" if of.slowest else "-",
            f"{of.overhead:.1f}",
            f"{len(of.took_part)} of {len(of.took_part) + len(of.missing)}",
            "; ".join([*notes.get(of.round, ()), *_words(of)]) or "-",
        ]
        for of in figures
    ]


def usual_overhead(figures: Iterable[RoundFigures]) -> float:
    """Median of the rounds in which nothing happened; nan where there is none."""
    quiet = [of.overhead for of in figures if not of.disturbed]
    return statistics.median(quiet) if quiet else math.nan


def _figures(number: int, total: float, sites: list[dict[str, str]], answered: Answered) -> RoundFigures:
    took_part = tuple(row["site"] for row in sites if row["outcome"] == ACCEPTED)
    repeated = tuple(name for name in took_part if REPEATED in answered.get(name, {}).get(number, ()))
    own = {row["site"]: float(row["seconds"]) for row in sites if row["site"] in set(took_part) - set(repeated)}
    missing = {row["site"]: row["outcome"] for row in sites if row["outcome"] != ACCEPTED}
    return RoundFigures(number, total, own, took_part, missing, repeated)


def _words(of: RoundFigures) -> list[str]:
    # Flower's own reasons go on after a dash; sites.csv has all of them.
    words = [f"without {site}: {why.split(' — ')[0]}" for site, why in of.missing.items()]
    if of.repeated:
        words.append(f"the same answer again, without training: {', '.join(of.repeated)}")
    return words


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
