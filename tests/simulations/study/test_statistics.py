from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simulations.study.statistics import interval, pareto_front, slope_per_decade

_grid = st.integers(0, 5).map(float)
_points = st.lists(st.tuples(_grid, _grid), max_size=12)


@given(_points)
def test_the_front_is_what_nothing_else_beats(points: list[tuple[float, float]]) -> None:
    def beaten(point: tuple[float, float]) -> bool:
        return any(
            other[0] <= point[0] and other[1] >= point[1] and other != point  # as cheap and as good, and not the same
            for other in points
        )

    assert sorted(pareto_front(points)) == [i for i, point in enumerate(points) if not beaten(point)]


def test_the_front_rises_and_leaves_out_what_is_not_finite() -> None:
    assert pareto_front([(3.0, 0.9), (1.0, 0.5), (2.0, math.nan), (math.nan, 1.0), (2.0, 0.4)]) == [1, 0]


def test_a_few_bytes_of_framing_put_nothing_on_the_front() -> None:
    assert pareto_front([(299_834.0, 0.72), (299_836.0, 0.82)]) == [1]
    assert pareto_front([(299_834.0, 0.8), (299_836.0, 0.8)]) == [0, 1]
    assert pareto_front([(290_000.0, 0.72), (299_836.0, 0.82)]) == [0, 1]


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=8))
def test_the_interval_is_student_s(values: list[float]) -> None:
    found = interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values) or 1e-300)
    assert found.mean - found.half == pytest.approx(low, abs=1e-6)
    assert found.mean + found.half == pytest.approx(high, abs=1e-6)
    assert (found.low, found.high) == (min(values), max(values))


def test_intervals_of_few_values() -> None:
    assert math.isnan(interval([0.5]).half)
    assert interval([0.5, math.nan]).n == 1
    assert math.isnan(interval([]).mean)


@given(st.lists(st.tuples(st.integers(1, 10**5), st.floats(0, 100)), min_size=3, max_size=10, unique_by=lambda p: p[0]))
def test_the_slope_is_polyfit_s(points: list[tuple[int, float]]) -> None:
    expected = np.polyfit(np.log10([cost for cost, _ in points]), [value for _, value in points], 1)[0]
    assert slope_per_decade(points).value == pytest.approx(expected, abs=1e-4, rel=1e-4)


def test_the_slope_of_a_line_is_known_in_every_draw() -> None:
    found = slope_per_decade([(10.0**k, 50 + 3.0 * k) for k in range(2, 9)])
    assert (found.value, found.low, found.high) == pytest.approx((3.0, 3.0, 3.0))


def test_the_interval_of_the_slope_covers_it_and_is_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    points = [(10.0**k, 60 + 2.0 * k + rng.normal(0, 1)) for k in np.linspace(2, 8, 9)]
    found = slope_per_decade(points)
    assert found.low < found.value < found.high
    assert found.low < 2.0 < found.high
    assert found == slope_per_decade(points)


def test_too_few_points_have_no_slope() -> None:
    assert math.isnan(slope_per_decade([(10.0, 1.0), (10.0, 2.0)]).value)
    two = slope_per_decade([(10.0, 1.0), (100.0, 2.0), (math.nan, 5.0)])
    assert (two.n, two.value) == (2, pytest.approx(1.0))
    assert math.isnan(two.low)
