from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.audit.lower_bound import bound, epsilon_of, guess_sizes, p_value


def _randomised_response(canaries: int, epsilon: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The mechanism that is exactly epsilon-private: each coin is told rightly with odds e^epsilon."""
    generator = np.random.default_rng(seed)
    included = generator.random(canaries) < 0.5
    truthful = generator.random(canaries) < 1 / (1 + math.exp(-epsilon))
    return np.where(truthful, included, ~included).astype(float), included


def test_the_papers_own_example() -> None:
    """Appendix D: 1,000 canaries, 100 guesses, 75 right, delta 1e-4, 95 %."""
    assert epsilon_of(1000, 100, 75, 1e-4) == pytest.approx(0.673, abs=5e-4)


@pytest.mark.parametrize("guesses", [1, 10, 100, 1000])
def test_all_right_without_delta(guesses: int) -> None:
    """accuracy^guesses = 0.05 there, in closed form."""
    accuracy = 0.05 ** (1 / guesses)
    expected = max(0.0, math.log(accuracy / (1 - accuracy)))
    assert epsilon_of(2000, guesses, guesses, 0.0) == pytest.approx(expected, abs=1e-6)


def test_the_tail_is_binomial() -> None:
    """3 of 4 right or more, by fair coins: 5 / 16; with delta, 2 m delta times the largest mean just below."""
    assert p_value(10, 4, 3, 0.0, 0.0) == pytest.approx(5 / 16)
    just_below = max((6 / 16), (6 + 4) / 16 / 2, (6 + 4 + 1) / 16 / 3)
    assert p_value(10, 4, 3, 0.0, 1e-3) == pytest.approx(5 / 16 + 2 * 10 * 1e-3 * just_below)


def test_nothing_guessed_or_nothing_right_shows_nothing() -> None:
    assert epsilon_of(100, 0, 0, 0.0) == epsilon_of(100, 50, 25, 0.0) == epsilon_of(100, 50, 0, 1e-5) == 0.0
    assert bound(np.zeros(0), np.zeros(0, dtype=bool), 1e-5).epsilon == 0.0


@given(st.integers(2, 300), st.data(), st.floats(0, 6), st.sampled_from([0.0, 1e-6, 1e-4]))
def test_what_is_ruled_out_at_epsilon_is_below_it(
    canaries: int, data: st.DataObject, epsilon: float, delta: float
) -> None:
    guesses = data.draw(st.integers(1, canaries))
    correct = data.draw(st.integers(0, guesses))
    found = epsilon_of(canaries, guesses, correct, delta)
    assert found == 0.0 or p_value(canaries, guesses, correct, found, delta) < 0.05 + 1e-9
    assert epsilon_of(canaries, guesses, correct, 0.0) >= found


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
def test_never_above_the_truth_more_often_than_promised(epsilon: float) -> None:
    """400 audits of randomised response; at 5 % more than 40 too high has a probability below 1e-5."""
    found = [bound(*_randomised_response(200, epsilon, seed), delta=0.0).epsilon for seed in range(400)]
    assert sum(value > epsilon for value in found) <= 40
    if epsilon:
        assert np.median(found) > epsilon / 2


def test_a_leak_is_found_however_few_are_surely_guessed() -> None:
    """16 of 256 stand out on each side and the rest are noise: guessing all would show next to nothing."""
    generator = np.random.default_rng(0)
    included = np.arange(256) % 2 == 0
    scores = generator.normal(size=256)
    scores[:32] += np.where(included[:32], 20, -20)
    found = bound(scores, included, 0.0)
    assert found.guesses == 32
    assert found.correct == 32
    assert found.epsilon > 1.5
    assert found.ceiling > found.epsilon


def test_the_ceiling_is_reached_by_an_attack_that_is_always_right() -> None:
    included = np.arange(100) % 2 == 0
    found = bound(included.astype(float), included, 1e-5)
    assert (found.guesses, found.correct) == (100, 100)
    assert found.epsilon == found.ceiling > 3


def test_trying_several_numbers_of_guesses_is_paid_for() -> None:
    included = np.arange(100) % 2 == 0
    assert bound(included.astype(float), included, 0.0).epsilon < epsilon_of(100, 100, 100, 0.0)


def test_sizes_are_even_and_fit() -> None:
    assert all(size % 2 == 0 and 2 <= size <= 99 for size in guess_sizes(99))
    assert not guess_sizes(1)


@pytest.mark.parametrize(
    "wrong", [(10, 5, 6, 1.0, 0.0), (4, 5, 5, 1.0, 0.0), (10, 5, 5, -1.0, 0.0), (10, 5, 5, 1.0, 2.0)]
)
def test_what_cannot_be_is_refused(wrong: tuple[int, int, int, float, float]) -> None:
    with pytest.raises(ValueError, match="cannot be right|must be at least 0"):
        p_value(*wrong)
