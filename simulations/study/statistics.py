"""Intervals, the Pareto front, and accuracy per decade of parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

_COVERAGE = 0.95
_SEED = 20260101
DRAWS = 10_000
"""Of the bootstrap."""
SAME_COST = 0.01
"""Measured bytes of equal states differ by the digits of counts and the length of names: that must decide nothing."""


@dataclass(frozen=True)
class Interval:
    """A mean of ``n`` finite values, lowest and highest value, and half the width of its 95% interval (``nan`` for n
    below 2), by the t distribution with n - 1 degrees of freedom.
    """

    n: int
    mean: float
    low: float
    high: float
    half: float


def interval(values: Sequence[float]) -> Interval:
    """
    >>> round(interval([1.0, 2.0, 3.0]).half, 3)
    2.484
    """
    finite = np.array([value for value in values if math.isfinite(value)])
    if not finite.size:
        return Interval(0, math.nan, math.nan, math.nan, math.nan)
    half = math.nan
    if finite.size > 1:
        quantile = float(stdtrit(finite.size - 1, 0.5 + _COVERAGE / 2))
        half = quantile * float(finite.std(ddof=1)) / math.sqrt(finite.size)
    return Interval(finite.size, float(finite.mean()), float(finite.min()), float(finite.max()), half)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices, by rising cost, of the points that no other beats: none is as cheap and better, or cheaper and as good.

    Costs that differ by at most ``SAME_COST`` of the smaller count as equal.

    Args:
        points: cost and value of each; those that are not finite are never on the front.
    """
    finite = [point for point in points if all(map(math.isfinite, point))]
    front = [i for i, point in enumerate(points) if point in finite and not any(_beats(p, point) for p in finite)]
    return sorted(front, key=lambda i: points[i])


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    as_cheap, cheaper = one[0] <= other[0] * (1 + SAME_COST), one[0] * (1 + SAME_COST) < other[0]
    return (as_cheap and one[1] > other[1]) or (cheaper and one[1] >= other[1])


@dataclass(frozen=True)
class Slope:
    """Rise of the value per factor of ten of the cost, over ``n`` points; ``nan`` where there are too few."""

    n: int
    value: float
    low: float
    high: float


def slope_per_decade(points: Sequence[tuple[float, float]]) -> Slope:
    """Least squares of value on log10(cost), with a 95% percentile interval from a bootstrap over the points.

    A draw in which all costs are equal has no slope and counts for nothing; fewer than three points have no interval.
    """
    finite = [point for point in points if all(map(math.isfinite, point)) and point[0] > 0]
    if len({cost for cost, _ in finite}) < 2:
        return Slope(len(finite), math.nan, math.nan, math.nan)
    costs, values = np.log10([cost for cost, _ in finite]), np.array([value for _, value in finite])
    value = float(_slopes(costs[None], values[None])[0])
    if len(finite) < 3:
        return Slope(len(finite), value, math.nan, math.nan)
    drawn = np.random.default_rng(_SEED).integers(len(finite), size=(DRAWS, len(finite)))
    slopes = _slopes(costs[drawn], values[drawn])
    low, high = np.percentile(slopes[np.isfinite(slopes)], [50 * (1 - _COVERAGE), 50 * (1 + _COVERAGE)])
    return Slope(len(finite), value, float(low), float(high))


def _slopes(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
    """Of each row [D, n]; ``nan`` where a row of ``x`` is constant."""
    dx = x - x.mean(axis=1, keepdims=True)
    square = (dx**2).sum(axis=1)
    varies = np.ptp(x, axis=1) > 0
    result: NDArray[np.floating] = np.full(len(x), np.nan)
    result[varies] = (dx * y).sum(axis=1)[varies] / square[varies]
    return result
