"""What is written down of every round, site and reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmedpeft.exchange import Scores
from fedmedpeft.tasks import Task
from server.client_privacy import PrivateRound


@dataclass(frozen=True)
class SiteRecord:
    """One site in one round. ``scores`` are of the state that came, the one after round ``round - 1``.

    ``drawn``: what it was asked to train, where a method trains another part in each round. ``private``: what its
    epsilon is per, where it trains with privacy; ``epsilon`` and ``delta`` have been spent by then, where it tells.
    ``withheld``: what its policy keeps back, of ``val``, ``test`` and ``loss``.
    """

    round: int
    site: str
    outcome: str
    samples: int = 0
    steps: int = 0
    loss: float = math.nan
    scores: dict[str, Scores] = field(default_factory=dict)
    down: int = 0
    up: int = 0
    seconds: float = math.nan
    drawn: tuple[str, ...] = ()
    private: str = ""
    epsilon: float | None = None
    delta: float | None = None
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoundRecord:
    """One round. ``scores`` (validation, by site) are of the state after it, and arrive with the next visit.

    ``drawn``: what any site was asked to train, where a method trains another part in each round. ``private``: what was
    done for the privacy of whole sites, where the run has it. ``withheld``: sites whose policy keeps these scores back.
    """

    round: int
    asked: int
    used: int
    outcome: str
    down: int
    up: int
    seconds: float
    scores: dict[str, Scores] = field(default_factory=dict)
    drawn: tuple[str, ...] = ()
    private: PrivateRound | None = None
    withheld: tuple[str, ...] = ()

    @property
    def loss(self) -> float:
        """Mean loss over all samples of all sites."""
        return mean_loss(list(self.scores.values()))

    def mean(self, metric: str) -> float:
        """Of one metric over sites, each counting once."""
        return mean([score_of(scores, metric) for scores in self.scores.values()])

    def worst(self, metric: str) -> tuple[str, float]:
        """Name and value of the site with the lowest value of one metric; ("", nan) without scores."""
        return worst({site: score_of(scores, metric) for site, scores in self.scores.items()})


@dataclass(frozen=True)
class ReferenceRecord:
    """One reference, or why there is none. ``site`` trained it."""

    kind: str
    site: str
    outcome: str
    scores: dict[str, Scores] = field(default_factory=dict)
    seconds: float = math.nan


def score_of(scores: Scores | None, metric: str) -> float:
    """One metric; ``nan`` where there is none."""
    return scores.metrics.get(metric, math.nan) if scores else math.nan


def mean(values: Sequence[float]) -> float:
    """Mean of the finite values; ``nan`` without any."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def worst(values: dict[str, float]) -> tuple[str, float]:
    """Name and value of the lowest finite value; the first by name among equals."""
    finite = sorted((value, name) for name, value in values.items() if math.isfinite(value))
    return (finite[0][1], finite[0][0]) if finite else ("", math.nan)


def mean_loss(scores: Sequence[Scores]) -> float:
    """Mean loss weighted by samples; ``nan`` without samples."""
    total = sum(score.samples for score in scores)
    return sum(score.samples * score.loss for score in scores if score.samples) / total if total else math.nan


def union_metrics(task: Task, scores: Sequence[Scores]) -> dict[str, float]:
    """Metrics over all samples of all sites, from their counts added up; empty without scores."""
    if not scores:
        return {}
    return task.metrics_of_counts([sum(counts) for counts in zip(*(score.counts for score in scores), strict=True)])
