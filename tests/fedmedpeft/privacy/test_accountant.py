from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis.rdp import compute_rdp
from scipy.special import logsumexp
from scipy.stats import norm

from fedmedpeft.privacy.accountant import (
    LEAST_NOISE,
    MOST_NOISE,
    AccountingWarning,
    BudgetExceeded,
    Spending,
    epsilon,
    noise_for,
)
from fedmedpeft.privacy.renyi import ORDERS

_WHOLE_ORDERS = [int(order) for part in ORDERS for order in part if order == int(order)]
_TYPICAL = Spending(1.0, 0.05, 500)
_PHASES = (Phase.explicit, Phase.generate)
"""Shrinking what fails would take minutes."""


def _independent(accountant: dp_accounting.PrivacyAccountant, history: Sequence[Spending], delta: float) -> float:
    for one in history:
        event = dp_accounting.PoissonSampledDpEvent(
            one.sample_rate, dp_accounting.GaussianDpEvent(one.noise_multiplier)
        )
        accountant.compose(dp_accounting.SelfComposedDpEvent(event, one.steps))
    return float(accountant.get_epsilon(delta))


_spendings = st.builds(
    Spending,
    noise_multiplier=st.floats(0.5, 20),
    sample_rate=st.one_of(st.floats(1e-4, 0.3), st.just(1.0)),
    steps=st.integers(1, 300),
)
_histories = st.lists(_spendings, min_size=1, max_size=4)
_deltas = st.sampled_from([1e-3, 1e-5, 1e-7])


@given(_histories, _deltas)
@settings(max_examples=30, deadline=None, phases=_PHASES)
def test_rdp_is_what_an_independent_accountant_says(history: list[Spending], delta: float) -> None:
    # At whole orders: at others its series, which adds what alternates, lies higher, or does not end and is left out.
    theirs = RdpAccountant(orders=_WHOLE_ORDERS)
    bound = _independent(theirs, history, delta)
    assume(bound > 0)  # they have a second rule, for what is next to nothing
    order = theirs.get_epsilon_and_optimal_order(delta)[1]
    if order > 11:
        assert epsilon(history, delta) == pytest.approx(bound, rel=1e-3, abs=1e-9)
    else:  # where ours has orders in between, and below 2
        assert (0.75 if order > 2 else 0.1) * bound < epsilon(history, delta) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("order", [1.01, 1.3, 1.9, 2.5, 7.0, 200.0])
@pytest.mark.parametrize(("noise", "rate"), [(0.4, 0.01), (1.0, 0.25), (3.0, 0.5), (20.0, 0.9), (0.2, 0.999)])
def test_divergences_are_the_integrals_that_they_stand_for(noise: float, rate: float, order: float) -> None:
    """Mironov et al. 2019, theorem 4: the order-th moment, under the one output, of the ratio of both."""
    at = np.linspace(-12 * noise, order + 12 * noise, 40_001)
    ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * at - 1) / (2 * noise**2))
    moment = logsumexp(order * ratio + norm.logpdf(at, scale=noise)) + math.log(at[1] - at[0])
    found = compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=order)
    assert found == pytest.approx(moment / (order - 1), rel=1e-6, abs=1e-10)


@given(_histories, _deltas)
@settings(max_examples=5, deadline=None, phases=_PHASES)
def test_prv_is_at_most_rdp_and_close_above_the_truth(history: list[Spending], delta: float) -> None:
    rdp = epsilon(history, delta)
    assume(rdp < 60)
    found = epsilon(history, delta, "prv")
    assert found <= rdp
    # Theirs is an upper bound too: rounding every loss up to its grid costs it more the more steps there are.
    truth = _independent(PLDAccountant(value_discretization_interval=1e-3), history, delta)
    assert found <= truth * 1.001 + 0.011
    if truth < rdp - 0.05:
        assert found >= truth - 0.005 * math.sqrt(sum(one.steps for one in history) / 100) - 1e-3


def test_figures_that_are_known() -> None:
    assert epsilon([_TYPICAL], 1e-5) == pytest.approx(8.2967, abs=1e-3)
    assert epsilon([_TYPICAL], 1e-5, "prv") == pytest.approx(7.534, abs=2e-3)
    assert type(epsilon([_TYPICAL], 1e-5, "prv")) is float


def test_nothing_spent_is_nothing() -> None:
    assert epsilon([], 1e-5) == epsilon([], 1e-5, "prv") == 0.0


def test_only_what_was_spent_matters_not_in_how_many_pieces_or_which_order() -> None:
    other = Spending(2.0, 0.1, 7)
    pieces = [Spending(1.0, 0.05, 200), other, Spending(1.0, 0.05, 300)]
    for accounting in ("rdp", "prv"):
        assert epsilon(pieces, 1e-5, accounting) == pytest.approx(
            epsilon([other, _TYPICAL], 1e-5, accounting), rel=1e-9
        )


def test_taking_all_units_in_each_step_is_the_gaussian_mechanism() -> None:
    """Its Renyi divergence is alpha n / (2 z^2); the best order is found on a fine grid here."""
    rho, delta = 50 / (2 * 5.0**2), 1e-6
    fine = (1 + tenth / 1000 for tenth in range(10, 60_000))
    best = min(a * rho + math.log1p(-1 / a) - math.log(delta * a) / (a - 1) for a in fine)
    assert epsilon([Spending(5.0, 1.0, 50)], delta) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize(
    ("spending", "orders_of_opacus"),
    [(Spending(0.05, 1.0, 50), "smallest"), (Spending(100.0, 0.01, 500), "largest")],
)
def test_the_bound_is_tight_where_the_orders_of_opacus_end(spending: Spending, orders_of_opacus: str) -> None:
    loose = RDPAccountant()
    loose.history = [(spending.noise_multiplier, spending.sample_rate, spending.steps)]
    with pytest.warns(UserWarning, match=orders_of_opacus):
        theirs = loose.get_epsilon(1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = epsilon([spending], 1e-5)
    assert ours < 0.99 * theirs


@pytest.mark.parametrize(
    ("spending", "delta", "why"),
    [
        (_TYPICAL, 1e-12, "cannot be trusted"),
        (Spending(0.1, 1.0, 20), 1e-5, "privacy losses"),
        (Spending(1.5, 0.01, 10**7), 1e-6, "too large a grid"),
    ],
)
def test_where_prv_is_no_bound_that_of_rdp_is_given_and_said(spending: Spending, delta: float, why: str) -> None:
    with pytest.warns(AccountingWarning, match=why):
        assert epsilon([spending], delta, "prv") == epsilon([spending], delta)


def test_prv_of_opacus_reports_too_little_at_a_tiny_delta() -> None:
    """Why it is not asked there."""
    accountant = PRVAccountant()
    accountant.history = [(1.0, 0.01, 5000)]
    truth = _independent(PLDAccountant(value_discretization_interval=1e-4), [Spending(1.0, 0.01, 5000)], 1e-13)
    assert accountant.get_epsilon(1e-13) < truth - 0.03


@pytest.mark.parametrize("noise", [LEAST_NOISE, 0.3, 50.0, 1000.0, MOST_NOISE])
@pytest.mark.parametrize("rate", [1e-9, 0.3, 1 - 1e-9, 1.0])
def test_extremes_have_a_finite_bound(noise: float, rate: float) -> None:
    for steps in (1, 1000):
        assert 0 <= epsilon([Spending(noise, rate, steps)], 1e-5) < math.inf


@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [
        *((noise, 0.1, 1) for noise in (0.0, -1.0, math.nan, math.inf)),
        *((1, rate, 1) for rate in (0.0, 1.1, math.nan)),
        *((1, 0.1, steps) for steps in (0, 1.5, True)),
    ],
)
def test_what_cannot_be_spent_is_refused(noise: float, rate: float, steps: int) -> None:
    with pytest.raises(ValueError, match="must"):
        Spending(noise, rate, steps)


@pytest.mark.parametrize("delta", [0.0, -1e-5, 1.0, math.nan])
def test_a_delta_that_is_none_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta="):
        epsilon([_TYPICAL], delta)


@given(
    target=st.floats(0.05, 50),
    rate=st.sampled_from([0.002, 0.05, 0.3, 1.0]),
    steps=st.integers(1, 1000),
    history=st.lists(_spendings, max_size=2),
)
@settings(max_examples=8, deadline=None, phases=_PHASES)
def test_noise_for_a_budget_is_the_smallest(target: float, rate: float, steps: int, history: list[Spending]) -> None:
    if (least := epsilon([*history, Spending(MOST_NOISE, rate, steps)], 1e-5)) > target:
        with pytest.raises(BudgetExceeded) as caught:
            noise_for(target, 1e-5, rate, steps, history=history)
        assert caught.value.asked == least
        return
    noise = noise_for(target, 1e-5, rate, steps, history=history)
    assert epsilon([*history, Spending(noise, rate, steps)], 1e-5) <= target
    if noise > LEAST_NOISE:
        smaller = max(noise / 1.0011, LEAST_NOISE)
        assert epsilon([*history, Spending(smaller, rate, steps)], 1e-5) > target


def test_noise_for_a_budget_by_prv() -> None:
    history = [Spending(2.0, 0.02, 200)]
    found = noise_for(3.0, 1e-5, 0.05, 20, history=history, accounting="prv")
    assert epsilon([*history, Spending(found, 0.05, 20)], 1e-5, "prv") <= 3.0
    assert epsilon([*history, Spending(found / 1.002, 0.05, 20)], 1e-5, "prv") > 3.0
    assert found < noise_for(3.0, 1e-5, 0.05, 20, history=history)


def test_prv_finds_noise_where_rdp_has_none_left() -> None:
    history = [Spending(1.2, 0.01, 1)]  # 0.63 by rdp, 0.12 by prv
    with pytest.raises(BudgetExceeded):
        noise_for(0.5, 1e-5, 0.01, 5, history=history)
    assert noise_for(0.5, 1e-5, 0.01, 5, history=history, accounting="prv") < 1.2


def test_a_budget_that_is_spent_has_no_noise_and_says_so() -> None:
    with pytest.raises(BudgetExceeded, match=r"budget of epsilon 8, 8\.2967 is spent") as caught:
        noise_for(8.0, 1e-5, 0.05, 10, history=[_TYPICAL])
    assert (caught.value.budget, caught.value.spent) == (8.0, pytest.approx(8.2967, abs=1e-3))
    assert not any(character.isdigit() for character in caught.value.public)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_a_target_that_is_none_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target"):
        noise_for(target, 1e-5, 0.05, 10)


def test_the_search_says_only_what_holds_for_what_it_found() -> None:
    """It starts where prv has no bound, and ends where it has."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", AccountingWarning)
        noise_for(30.0, 1e-5, 1.0, 1, accounting="prv")
    with pytest.warns(AccountingWarning):
        noise_for(8.0, 1e-12, 0.05, 10, accounting="prv")
