from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.config import RunConfig
from server.robust_spread import FEWEST, outliers, usual

SPREAD = RunConfig().outlier_spread
# Norms of updates of real first rounds: four laboratories with the default method, and eight sites of 2 to 200 images
# that train a head alone, the widest of all that were measured.
LABORATORIES = {"barcelona": 1.3217, "bccd": 1.2761, "cellavision": 1.3474, "jiangxi": 1.2504}
UNLIKE = {"a": 0.62, "b": 0.81, "c": 0.5, "d": 0.93, "e": 1.21, "f": 0.31, "g": 0.78, "h": 0.44}


@pytest.mark.parametrize("lengths", [LABORATORIES, UNLIKE])
def test_honest_sites_count(lengths: dict[str, float]) -> None:
    assert outliers(lengths, SPREAD) == {}


@pytest.mark.parametrize("lengths", [LABORATORIES, UNLIKE])
@pytest.mark.parametrize("factor", [20.0, 100.0, 1e30])
def test_one_that_shouts_is_heard_by_nobody(lengths: dict[str, float], factor: float) -> None:
    for site in lengths:
        reasons = outliers(lengths | {site: lengths[site] * factor}, SPREAD)
        assert list(reasons) == [site]
        assert "times as long as is usual" in reasons[site]
        assert len(reasons[site]) < 200


def test_ten_times_is_found_among_sites_that_are_nearly_alike() -> None:
    for site in LABORATORIES:
        assert list(outliers(LABORATORIES | {site: 10 * LABORATORIES[site]}, SPREAD)) == [site]


def test_a_third_of_the_sites_cannot_hide_each_other() -> None:
    assert set(outliers(UNLIKE | {"x": 90.0, "y": 80.0, "z": 85.0}, SPREAD)) == {"x", "y", "z"}


def test_one_that_hardly_moved_is_as_good_as_untrained() -> None:
    assert "untrained" in outliers(LABORATORIES | {"bccd": 1e-6}, SPREAD)["bccd"]
    assert outliers(LABORATORIES | {"bccd": 1e-4}, SPREAD) == {}


def test_of_three_nothing_is_said() -> None:
    assert FEWEST == 4
    assert outliers({"a": 1.0, "b": 1.0, "c": 1e9}, SPREAD) == {}
    assert list(outliers({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1e9}, SPREAD)) == ["d"]


def test_who_still_learns_where_others_have_converged_is_no_outlier() -> None:
    """Measured: noise of differential privacy goes on at 11 times the median of sites that have nothing to learn."""
    converged = {"a": 0.17, "b": 0.2, "c": 0.11, "d": 0.15, "hard": 1.9}
    assert list(outliers(converged, SPREAD)) == ["hard"]
    assert outliers(converged, SPREAD, before=2.46) == {}
    assert list(outliers(converged | {"hard": 190.0}, SPREAD, before=2.46)) == ["hard"]


def test_what_is_usual_is_the_median_of_the_longest_round() -> None:
    assert usual([1.0, 2.0, 3.0, 100.0]) == 2.5
    assert usual([1.0, 2.0, 3.0, 100.0], before=1.0) == 2.5
    assert usual([1.0, 2.0, 3.0, 100.0], before=7.0) == 7.0
    assert usual([50.0, 60.0, 70.0], before=7.0) == 7.0


def test_where_sites_are_unlike_more_is_allowed() -> None:
    unlike = {"a": 0.1, "b": 0.3, "c": 1.0, "d": 3.0, "e": 9.0}
    assert outliers(unlike, SPREAD) == {}
    assert list(outliers(dict.fromkeys("abcd", 1.0) | {"e": 9.0}, SPREAD)) == ["e"]


def test_a_spread_of_zero_says_nothing() -> None:
    assert outliers(LABORATORIES | {"bccd": 1e9}, 0.0) == {}


def test_a_larger_spread_lets_more_pass() -> None:
    boosted = LABORATORIES | {"bccd": 12.0}
    assert outliers(boosted, 3.0)
    assert not outliers(boosted, 8.0)


@given(
    st.lists(st.floats(0.45, 2.2), min_size=4, max_size=20),
    st.floats(1e-6, 1e6),
)
def test_what_lies_within_five_times_of_each_other_passes_on_any_scale(lengths: list[float], scale: float) -> None:
    middle = sorted(lengths)[len(lengths) // 2]
    near = {str(index): scale * min(length, 2 * middle) for index, length in enumerate(lengths)}
    assert outliers(near, SPREAD) == {}


@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=12), st.floats(1.5, 1e6))
def test_never_more_than_half_are_left_out_above(lengths: list[float], boost: float) -> None:
    sites = {str(index): length for index, length in enumerate(lengths)} | {"x": max(lengths) * boost}
    above = [site for site, reason in outliers(sites, SPREAD).items() if "times" in reason]
    assert len(above) <= len(sites) // 2
