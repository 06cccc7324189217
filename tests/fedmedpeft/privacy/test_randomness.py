"""Noise has the distribution that accounting assumes. Bounds are of 7 standard errors: wrong once in 10^11."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from fedmedpeft.privacy.randomness import Randomness, SeededRandomness, SystemRandomness

_COUNT = 200_001
_ERRORS = 7


@pytest.fixture(params=["system", "seeded"])
def randomness(request: pytest.FixtureRequest) -> Randomness:
    return SystemRandomness() if request.param == "system" else SeededRandomness(3)


def test_moments_of_the_noise(randomness: Randomness) -> None:
    """So many that a standard deviation that is wrong by a half per cent shows."""
    count = 10 * _COUNT
    drawn = randomness.normal((count,), std=1.0).double()
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((drawn**power).mean()) - expected) < _ERRORS * math.sqrt(variance / count)


def test_the_noise_is_gaussian_everywhere(randomness: Randomness) -> None:
    """Kolmogorov and Smirnov: sqrt(n) D > 3.6 has a probability of 1e-11."""
    drawn = randomness.normal((_COUNT,), std=2.5).double().numpy() / 2.5
    assert stats.kstest(drawn, "norm").statistic * math.sqrt(_COUNT) < 3.6


def test_coordinates_are_independent(randomness: Randomness) -> None:
    """Near ones, and the two that Box and Muller make of one pair: the first half and the second of what is drawn."""
    for count in (_COUNT, 2**14):
        drawn = randomness.normal((count,), std=1.0).double().numpy()
        for lag in (1, 2, 2**13, (count + 1) // 2):
            one, other = drawn[:-lag], drawn[lag:]
            for first, second in ((one, other), (one**2 - 1, other**2 - 1)):
                product = first * second
                assert abs(product.mean()) < _ERRORS * product.std() / math.sqrt(len(product))


def test_shape_scale_and_type(randomness: Randomness) -> None:
    assert randomness.normal((3, 5), std=2.0).shape == (3, 5)
    assert randomness.normal((1,), std=2.0).dtype == torch.float32
    assert randomness.normal((0,), std=2.0).shape == (0,)
    assert not randomness.normal((4,), std=0.0).any()
    assert abs(float(randomness.normal((_COUNT,), std=3e-4).std()) / 3e-4 - 1) < _ERRORS / math.sqrt(2 * _COUNT)


def test_uniform_draws(randomness: Randomness) -> None:
    drawn = randomness.uniform(_COUNT)
    assert drawn.dtype == torch.float64
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1
    assert stats.kstest(drawn.numpy(), "uniform").statistic * math.sqrt(_COUNT) < 3.6
    assert randomness.uniform(0).shape == (0,)


def test_the_systems_draws_are_fresh_and_touch_no_generator() -> None:
    torch.manual_seed(1)
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (SystemRandomness().normal((1000,), std=1.0) for _ in range(2))
    assert not (first == second).any()
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpys).all()


def test_a_seed_gives_the_same_draws_again() -> None:
    def draws(seed: int) -> list[torch.Tensor]:
        randomness = SeededRandomness(seed)
        return [randomness.uniform(10), randomness.normal((10,), std=1.0), randomness.uniform(10)]

    assert all(map(torch.equal, draws(1), draws(1)))
    assert not torch.equal(draws(1)[1], draws(2)[1])
    assert not torch.equal(draws(1)[0], draws(1)[2])
