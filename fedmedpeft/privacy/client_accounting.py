"""What privacy of whole sites costs, and what so few of them can have of it at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedmedpeft.privacy.accountant import Spending, epsilon, noise_for
from fedmedpeft.privacy.client_level import ClientLevel
from fedmedpeft.privacy.terms import LEAST_NOISE, MOST_NOISE

_COMPARED = (3, 5, 10, 20, 100)
"""Numbers of sites that a plan shows beside its own."""
_WEAK = 10.0
"""Epsilon above which the usual guidance calls a guarantee of little use (Ponomareva et al., JAIR 2023)."""


def epsilon_of(noise: float, rounds: int, delta: float) -> float:
    """Epsilon of one site whose update was used in ``rounds`` rounds, each with this noise multiplier; 0 in none.

    Rounds without it cost it nothing, and no round costs less for having left others out: see ``client_level``.
    """
    return epsilon([Spending(noise, sample_rate=1.0, steps=rounds)] if rounds else [], delta)


@dataclass(frozen=True)
class NoiseOnMean:
    """How much noise the mean of the sites' updates carries.

    Attributes:
        number: standard deviation of one of its numbers, in clips.
        one_round: length of the noise of a round, over the most that the sites can move the mean in it (one clip).
        whole_run: the same of all rounds together, if every one of them moved the same way: the best that can be.
    """

    number: float
    one_round: float
    whole_run: float

    @classmethod
    def of(cls, number: float, rounds: int, numel: int) -> NoiseOnMean:
        return cls(number, number * math.sqrt(numel), number * math.sqrt(numel / rounds))

    @property
    def learnable(self) -> float:
        """Numbers that may be exchanged until the noise of a round is as long as the mean can be."""
        return self.number**-2


@dataclass(frozen=True)
class SitesOutlook:
    """What a number of sites could have.

    Attributes:
        sites: how many.
        learnable: numbers that they may exchange at the epsilon asked for, see :class:`NoiseOnMean`.
        half_a_clip: epsilon at which ``number`` is a half, whatever epsilon was asked for.
        one_round: epsilon at which ``one_round`` is 1.
        whole_run: epsilon at which ``whole_run`` is 1.
    """

    sites: int
    learnable: float
    half_a_clip: float
    one_round: float
    whole_run: float


@dataclass(frozen=True)
class ClientPlan:
    """The noise multiplier for an epsilon, what it does to the mean, and what other numbers of sites would have."""

    sites: int
    rounds: int
    epsilon: float
    delta: float
    numel: int
    noise: float
    on_mean: NoiseOnMean
    outlook: tuple[SitesOutlook, ...]


def plan_client_level(sites: int, rounds: int, epsilon: float, delta: float, numel: int) -> ClientPlan:
    """Plan privacy of whole sites, with noise added by the server.

    Args:
        sites: in every round.
        rounds: of the run.
        epsilon: for a site that takes part in all of them.
        delta: of that epsilon.
        numel: numbers that a site gives back in a round.

    Raises:
        BudgetExceeded: no noise is enough.
    """
    noise = noise_for(epsilon, delta, 1.0, rounds)
    outlook = tuple(_outlook(n, rounds, delta, numel, noise) for n in sorted({*_COMPARED, sites}))
    on_mean = NoiseOnMean.of(noise / sites, rounds, numel)
    return ClientPlan(sites, rounds, epsilon, delta, numel, noise, on_mean, outlook)


def plan_lines(plan: ClientPlan) -> list[str]:
    """A plan in words, and its outlook as a table."""
    rows: list[tuple[str, ...]] = [("sites", "learnable", "half a clip", "one round", "whole run")]
    for row in plan.outlook:
        epsilons = (row.half_a_clip, row.one_round, row.whole_run)
        rows.append((str(row.sites), f"{row.learnable:,.0f}", *map(_short, epsilons)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"Epsilon {plan.epsilon:g} at delta {plan.delta:g} for each of {plan.sites} sites over {plan.rounds} rounds: "
        f"noise={plan.noise:.4g}.",
        *_noise_lines(plan.on_mean, plan.numel),
        "",
        *("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows),
        "learnable: numbers whose noise, at this epsilon, is as long in a round as all that the sites can say.",
        "The others are the epsilon at which noise is half the clip on each number of a round's mean, or as long as",
        f"all that the sites say with {plan.numel:,} numbers: in a round, or in the run if all rounds say the same.",
    ]


def honest_warning(level: ClientLevel, sites: int, rounds: int, numel: int) -> list[str]:
    """What to say before a run: the guarantee, the noise, and whether anything can be learnt through it.

    Args:
        level: of the run.
        sites: whose updates are averaged in a round.
        rounds: of the run; a site that takes part in fewer has spent less.
        numel: numbers that a site gives back in a round.
    """
    reached = epsilon_of(level.noise, rounds, level.delta)
    on_mean = NoiseOnMean.of(level.noise_of_mean(1.0, sites), rounds, numel)
    lines = [
        f"Privacy of whole sites: epsilon {_short(reached)} at delta {level.delta:g} for a site that takes part in all "
        f"{rounds} rounds.",
        *_noise_lines(on_mean, numel),
    ]
    if reached > _WEAK:
        lines.append(
            f"WARNING: an epsilon above {_WEAK:g} promises a site little. More noise or fewer rounds lower it."
        )
    if on_mean.one_round > 1:
        lines.append(
            f"WARNING: {sites} sites are few for this. At noise={level.noise:g} they can be heard above the noise of a "
            f"round with about {on_mean.learnable:,.0f} numbers, and they exchange {numel:,}. A smaller method, more "
            "sites or a larger epsilon would help. To protect patients rather than whole sites use "
            "privacy='required(...)': its noise does not depend on the number of sites."
        )
    return lines


def _outlook(sites: int, rounds: int, delta: float, numel: int, noise: float) -> SitesOutlook:
    def at(multiplier: float) -> float:
        return epsilon_of(min(multiplier, MOST_NOISE), rounds, delta) if multiplier >= LEAST_NOISE else math.inf

    return SitesOutlook(
        sites=sites,
        learnable=(sites / noise) ** 2,
        half_a_clip=at(sites / 2),
        one_round=at(sites / math.sqrt(numel)),
        whole_run=at(sites * math.sqrt(rounds / numel)),
    )


def _noise_lines(on_mean: NoiseOnMean, numel: int) -> list[str]:
    return [
        f"Noise on the mean of a round: {on_mean.number:.3g} of the clip on each of {numel:,} numbers, in all "
        f"{on_mean.one_round:.3g} times the most that the sites can move it.",
        f"Over the run it is at best {on_mean.whole_run:.3g} times what they can say, if every round says the same.",
    ]


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
