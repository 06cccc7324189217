"""What DP-SGD costs: epsilon of a history of steps, and the noise that keeps within a budget.

Opacus does the mathematics, for add/remove adjacency of one unit, by Renyi DP (``rdp``) or by composition of privacy
loss variables (``prv``, tighter and slower). Both are upper bounds. Its third way, Gaussian DP, is an approximation
that may lie below the truth, and is not offered.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedmedpeft.privacy.loss_variables import NoBoundError, prv_epsilon
from fedmedpeft.privacy.renyi import rdp_epsilon
from fedmedpeft.privacy.terms import LEAST_NOISE, MOST_NOISE, Accounting

_PRECISION = 1e-3
"""How far above the smallest noise multiplier the one that is found may lie, as a share of it."""


class AccountingWarning(UserWarning):
    """Epsilon is an upper bound, but not of the kind that was asked for."""


class BudgetExceeded(Exception):  # noqa: N818 - it names what is wrong
    """Epsilon would pass the budget. ``public`` may leave the site: it has no numbers."""

    public = "The site's privacy budget does not allow it."

    def __init__(self, why: str, *, spent: float, asked: float, budget: float) -> None:
        super().__init__(
            f"{why}: of a budget of epsilon {budget:.5g}, {spent:.5g} is spent, and this would make it {asked:.5g}."
        )
        self.spent, self.asked, self.budget = spent, asked, budget


@dataclass(frozen=True)
class Spending:
    """Steps of one kind: the Gaussian mechanism on a Poisson sample of the units.

    Attributes:
        noise_multiplier: z, standard deviation of the noise on the sum of gradients, in clipping norms.
        sample_rate: q, the probability with which a unit is in a step; 1 takes them all.
        steps: how many, those with an empty sample included.

    Raises:
        ValueError: a number that cannot be accounted for.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not LEAST_NOISE <= self.noise_multiplier <= MOST_NOISE:
            expected = f"between {LEAST_NOISE:g} and {MOST_NOISE:g}; with less there is no privacy to account for"
            raise ValueError(f"noise_multiplier={self.noise_multiplier} must lie {expected}.")
        if not 0 < self.sample_rate <= 1:
            raise ValueError(f"sample_rate={self.sample_rate} must be above 0 and at most 1.")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps={self.steps} must be a whole number, at least 1.")


def epsilon(history: Sequence[Spending], delta: float, accounting: Accounting = "rdp") -> float:
    """Epsilon of all of ``history`` together, an upper bound at ``delta``; 0 where nothing was spent.

    Steps of one kind are added up first, so neither the order nor the number of entries matters. ``prv`` is the smaller
    of both bounds; where it has none of its own, rdp's is given with an ``AccountingWarning`` that says why.

    Raises:
        ValueError: ``delta`` is not between 0 and 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta} must lie between 0 and 1.")
    steps: Counter[tuple[float, float]] = Counter()
    for spending in history:
        steps[spending.noise_multiplier, spending.sample_rate] += spending.steps
    if not steps:
        return 0.0
    bound = rdp_epsilon(steps, delta)
    if accounting == "rdp":
        return bound
    try:
        return min(bound, prv_epsilon(steps, delta))
    except NoBoundError as reason:
        warnings.warn(f"{reason} Epsilon {bound:.4g} is the bound of rdp.", AccountingWarning, stacklevel=2)
        return bound


def noise_for(
    target: float,
    delta: float,
    sample_rate: float,
    steps: int,
    *,
    history: Sequence[Spending] = (),
    accounting: Accounting = "rdp",
) -> float:
    """The smallest noise multiplier, within 0.1 %, with which ``history`` and ``steps`` more stay within ``target``.

    Raises:
        BudgetExceeded: none up to ``MOST_NOISE`` does.
        ValueError: ``target``, or what would be spent, is not a number that it can be.
    """
    if not 0 < target < math.inf:
        raise ValueError(f"A target epsilon of {target} must be above 0 and finite.")

    def fits(method: Accounting) -> Callable[[float], bool]:
        return lambda noise: epsilon((*history, Spending(noise, sample_rate, steps)), delta, method) <= target

    with warnings.catch_warnings():
        # The search may pass where prv has no bound. Whether that holds for what it finds is said below.
        warnings.simplefilter("ignore", AccountingWarning)
        found = _smallest(fits("rdp"), 1.0, 4.0)
        if accounting == "prv":
            found = _smallest(fits("prv"), min(found, MOST_NOISE), 1.1)
    least = epsilon((*history, Spending(min(found, MOST_NOISE), sample_rate, steps)), delta, accounting)
    if least > target:
        spent = epsilon(history, delta, accounting)
        raise BudgetExceeded(
            f"No noise multiplier up to {MOST_NOISE:g} is enough", spent=spent, asked=least, budget=target
        )
    return found


def _smallest(fits: Callable[[float], bool], start: float, stride: float) -> float:
    """The smallest noise that fits: bracketed from ``start`` in growing strides, bisected; infinite where none does."""
    low = high = start
    if fits(start):
        while low > LEAST_NOISE and (low == high or fits(low)):
            high, low, stride = low, max(low / stride, LEAST_NOISE), stride**1.5
        if low == LEAST_NOISE and fits(low):
            return low
    else:
        while not fits(high):
            if high == MOST_NOISE:
                return math.inf
            low, high, stride = high, min(high * stride, MOST_NOISE), stride**1.5
    while high > low * (1 + _PRECISION):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
