"""Epsilon of whole sites against independent accountants, and what is said of few sites."""

from __future__ import annotations

import math

import pytest
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian
from flwr.serverapp import GaussianPrivacyEvent, NeighboringRelation, PrivacyConfig, RdpAccountant, SamplingMethod

from fedmedpeft.privacy.client_accounting import epsilon_of, honest_warning, plan_client_level, plan_lines
from fedmedpeft.privacy.client_level import ClientLevel, client_level

CASES = [(1.0, 2), (1.0, 10), (0.5, 20), (3.0, 20), (10.0, 100)]


def level(spec: str) -> ClientLevel:
    built = client_level(spec)
    assert built is not None
    return built


def flower_epsilon(noise: float, rounds: int) -> float:
    config = PrivacyConfig(
        target_delta=1e-5,
        population_size=4,
        neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
        sampling_method=SamplingMethod.NO_AMPLIFICATION,
    )
    accountant = RdpAccountant(config)
    accountant.compose(GaussianPrivacyEvent(noise, sample_size=4, population_size=4), rounds)
    return accountant.get_epsilon(1e-5)


@pytest.mark.parametrize(("noise", "rounds"), CASES)
def test_epsilon_is_flowers_and_above_the_exact_one(noise: float, rounds: int) -> None:
    ours = epsilon_of(noise, rounds, 1e-5)
    assert ours == pytest.approx(flower_epsilon(noise, rounds), rel=0.01)
    # Gaussian mechanisms compose to a Gaussian mechanism, whose epsilon is known exactly (Balle and Wang, 2018).
    exact = get_epsilon_gaussian(noise / math.sqrt(rounds), 1e-5)
    assert exact <= ours <= 1.25 * exact


def test_a_site_that_was_in_no_round_has_spent_nothing() -> None:
    assert epsilon_of(1.0, 0, 1e-5) == 0.0
    assert 0 < epsilon_of(1.0, 1, 1e-5) < epsilon_of(1.0, 2, 1e-5)


def test_a_plan_keeps_to_its_epsilon_and_does_not_waste_it() -> None:
    plan = plan_client_level(sites=5, rounds=20, epsilon=8.0, delta=1e-5, numel=10_000)
    assert epsilon_of(plan.noise, 20, 1e-5) <= 8.0 < epsilon_of(plan.noise * 0.998, 20, 1e-5)
    assert plan.on_mean.number == pytest.approx(plan.noise / 5)
    assert plan.on_mean.one_round == pytest.approx(100 * plan.noise / 5)
    assert plan.on_mean.whole_run == pytest.approx(100 * plan.noise / 5 / math.sqrt(20))
    assert plan.on_mean.learnable == pytest.approx((5 / plan.noise) ** 2)


def test_the_outlook_is_what_its_words_say() -> None:
    plan = plan_client_level(sites=7, rounds=20, epsilon=8.0, delta=1e-5, numel=400)
    assert [row.sites for row in plan.outlook] == [3, 5, 7, 10, 20, 100]
    own = plan.outlook[2]
    assert own.learnable == pytest.approx(plan.on_mean.learnable)
    # One number: noise / 7 = 1 / 2. A round: noise * sqrt(400) / 7 = 1. The run: sqrt(400 / 20) * noise / 7 = 1.
    assert own.half_a_clip == pytest.approx(epsilon_of(3.5, 20, 1e-5))
    assert own.one_round == pytest.approx(epsilon_of(0.35, 20, 1e-5))
    assert own.whole_run == pytest.approx(epsilon_of(7 / math.sqrt(20), 20, 1e-5))
    for column in ("half_a_clip", "one_round", "whole_run"):
        values = [getattr(row, column) for row in plan.outlook]
        assert values == sorted(values, reverse=True)


def test_nothing_that_can_be_accounted_for_is_left_of_millions_of_numbers() -> None:
    plan = plan_client_level(sites=3, rounds=1, epsilon=8.0, delta=1e-5, numel=10**8)
    assert plan.outlook[0].one_round == math.inf
    assert any("inf" in line for line in plan_lines(plan))


def test_a_plan_in_words() -> None:
    lines = plan_lines(plan_client_level(sites=5, rounds=20, epsilon=8.0, delta=1e-5, numel=10_000))
    assert lines[0] == "Epsilon 8 at delta 1e-05 for each of 5 sites over 20 rounds: noise=2.853."
    assert "0.571 of the clip on each of 10,000 numbers, in all 57.1 times" in lines[1]
    table = [line.split() for line in lines[5:10]]
    assert [row[0] for row in table] == ["3", "5", "10", "20", "100"]
    assert table[1] == ["5", "3", "9.37", "4,426", "295"]


def test_few_sites_are_told_what_they_can_have() -> None:
    guarantee, noise, run, *warnings = honest_warning(level("fixed(noise=1.0)"), sites=5, rounds=20, numel=10_000)
    assert guarantee.startswith("Privacy of whole sites: epsilon 30.1 at delta 1e-05")
    assert "0.2 of the clip on each of 10,000 numbers, in all 20 times" in noise
    assert "4.47 times" in run
    assert [line.split(":")[0] for line in warnings] == ["WARNING", "WARNING"]
    assert "above 10" in warnings[0]
    assert "with about 25 numbers, and they exchange 10,000" in warnings[1]


def test_many_sites_with_few_numbers_are_not_warned() -> None:
    lines = honest_warning(level("fixed(noise=4.0)"), sites=1000, rounds=20, numel=1000)
    assert len(lines) == 3
    assert not any("WARNING" in line for line in lines)


def test_noise_at_the_sites_is_said_to_be_more() -> None:
    at_server = honest_warning(level("fixed(noise=1.0)"), 4, 20, 100)[1]
    at_sites = honest_warning(level("fixed(noise=1.0, clip_at='site', noise_at='site')"), 4, 20, 100)[1]
    assert "0.25 of the clip" in at_server
    assert "0.5 of the clip" in at_sites
