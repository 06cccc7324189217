"""The mean of whole sites against a dense computation: what one site can do to it, how its clip moves, its cost."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedpeft.exchange import Manifest, PeftState, TensorSpec
from fedmedpeft.privacy.client_accounting import epsilon_of
from fedmedpeft.privacy.randomness import SeededRandomness, SystemRandomness
from tests.server.private_means import (
    MANIFEST,
    ZERO,
    Dense,
    answers_of,
    dense,
    mean_of,
    privacy,
    state_from,
    updates,
)


def test_the_mean_against_a_dense_oracle() -> None:
    start = state_from(np.random.default_rng(9).standard_normal(17))
    answers = answers_of(start, [*updates(0.01, 2), *updates(5.0, 3, seed=1)])
    ours = mean_of(privacy("fixed(clip=0.7, noise=2.0)", SeededRandomness(3)), start, answers)
    deltas = [dense(answer) - dense(start) for answer in answers.values()]
    clipped = [delta * min(1, 0.7 / np.linalg.norm(delta)) for delta in deltas]
    draws, std = SeededRandomness(3), 2.0 * 0.7 / 5
    # One draw for each part, in the state's order.
    noise = np.concatenate([draws.normal((12,), std=std).numpy(), draws.normal((5,), std=std).numpy()])
    np.testing.assert_allclose(ours, np.mean(clipped, axis=0) + noise, rtol=0, atol=5e-7)


MOVES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=17, max_size=17).map(np.array)


@settings(max_examples=40)
@given(st.lists(MOVES, min_size=2, max_size=5), MOVES, st.floats(1e-2, 100))
def test_one_site_can_move_the_mean_by_no_more_than_the_noise_is_for(
    moves: list[Dense], other: Dense, clip: float
) -> None:
    before, replaced, zeroed = (
        mean_of(privacy(f"fixed(clip={clip!r})"), ZERO, answers_of(ZERO, [first, *moves[1:]]))
        for first in (moves[0], other, np.zeros(17))
    )
    rounding = 1e-6 * clip
    assert np.linalg.norm(before - replaced) <= 2 * clip / len(moves) + rounding
    assert np.linalg.norm(before - zeroed) <= clip / len(moves) + rounding


@given(st.permutations(range(4)))
def test_the_order_of_the_sites_changes_nothing(order: list[int]) -> None:
    # Whether the small one is still in the sum depends on what float64 has added up before it.
    answers = answers_of(ZERO, [np.full(17, value) for value in (2e5, 1e-12, -2e5, 3e-12)])
    shuffled = {f"site-{index}": answers[f"site-{index}"] for index in order}
    expected = mean_of(privacy("fixed(clip=1e6)"), ZERO, answers)
    assert np.array_equal(expected, mean_of(privacy("fixed(clip=1e6)"), ZERO, shuffled))


def test_what_came_is_not_changed() -> None:
    answers = answers_of(ZERO, updates(5.0))
    before = [answer.hash() for answer in answers.values()]
    mean_of(privacy("fixed"), ZERO, answers)
    assert [answer.hash() for answer in answers.values()] == before


def test_noise_is_of_the_clip_over_the_sites_in_the_mean() -> None:
    manifest = Manifest.of([TensorSpec("head.weight", (40_000,), "head")])
    start = PeftState(manifest, {"head": np.zeros(40_000, np.float32)})
    private = privacy("fixed(clip=0.5, noise=3.0)", SystemRandomness())
    for round_, sites in ((1, 5), (2, 2)):
        moved = private.mean(round_, start, {f"{i}": start for i in range(sites)}, {f"{i}": None for i in range(sites)})
        # The standard error of a standard deviation of 40,000 numbers is 0.35 %.
        assert moved.vectors["head"].std() == pytest.approx(3.0 * 0.5 / sites, rel=0.03)
        record = private.of_round(round_)
        assert record is not None
        assert record.noise == pytest.approx(3.0 * 0.5 / sites)


# Rounds that move a part


def test_a_part_is_clipped_and_noised_and_the_rest_is_not_in_the_mean() -> None:
    part = MANIFEST.only({"head.bias"})
    answers = {site: answer.only(part) for site, answer in answers_of(ZERO, updates(5.0)).items()}
    moved = privacy("fixed(clip=0.5)").mean(1, ZERO, answers, dict.fromkeys(answers))
    assert moved.manifest == part
    deltas = [answer.vectors["head"] for answer in answers.values()]
    expected = np.mean([0.5 * delta / np.linalg.norm(delta) for delta in deltas], axis=0)
    np.testing.assert_allclose(moved.vectors["head"], expected, rtol=1e-5)
    noised = privacy("fixed", SeededRandomness(0)).mean(1, ZERO, answers, dict.fromkeys(answers))
    assert noised.manifest == part


def test_different_parts_have_no_mean() -> None:
    answers = answers_of(ZERO, updates(1.0, 2))
    answers["site-1"] = answers["site-1"].only(MANIFEST.only({"head.bias"}))
    with pytest.raises(ValueError, match="the same tensors"):
        privacy("fixed").mean(1, ZERO, answers, dict.fromkeys(answers))


# An adaptive clip


@pytest.mark.parametrize(("length", "factor"), [(100.0, math.exp(0.1)), (0.001, math.exp(-0.1))])
def test_the_clip_follows_the_updates(length: float, factor: float) -> None:
    private = privacy("adaptive(clip=0.1)")
    answers = answers_of(ZERO, [np.full(17, length / math.sqrt(17))] * 3)
    for round_ in range(1, 6):
        # What a site claims is nothing where the server sees its update.
        private.mean(round_, ZERO, answers, dict.fromkeys(answers, length > 1))
        assert private.clip == pytest.approx(0.1 * factor**round_)
    assert private.rounds[-1].clip == pytest.approx(0.1 * factor**4)
    assert private.rounds[-1].within == float(length < 0.1)


def test_the_clip_finds_the_median_through_the_noise() -> None:
    private = privacy("adaptive(clip=0.01, noise=1.0)", SeededRandomness(0))
    lengths = np.random.default_rng(0).lognormal(size=50)
    answers = answers_of(ZERO, [np.full(17, length / math.sqrt(17)) for length in lengths])
    for round_ in range(1, 151):
        mean_of(private, ZERO, answers, round_)
    settled = np.mean([record.clip for record in private.rounds[-50:]])
    assert settled == pytest.approx(np.median(lengths), rel=0.15)


def test_the_share_within_is_noised_and_a_fixed_clip_knows_none() -> None:
    private = privacy("adaptive(noise=2.0)", SeededRandomness(0))
    answers = answers_of(ZERO, updates(1e-4))
    for round_ in range(1, 2001):
        private.clip = 0.1
        mean_of(private, ZERO, answers, round_)
    shares = [record.within for record in private.rounds]
    assert np.mean(shares) == pytest.approx(1.0, abs=0.1)
    assert np.std(shares) == pytest.approx(2.0 / (2 * math.sqrt(0.1)) / 4, rel=0.1)
    fixed = privacy("fixed")
    mean_of(fixed, ZERO, answers)
    assert math.isnan(fixed.rounds[0].within)


# What it costs, and what is left of it


def test_each_site_pays_for_the_rounds_it_is_used_in() -> None:
    private = privacy("fixed(noise=2.0, delta=1e-6)")
    everyone = answers_of(ZERO, updates(1.0, 3))
    for round_ in range(1, 5):
        mean_of(private, ZERO, everyone if round_ < 3 else {s: a for s, a in everyone.items() if s != "site-1"}, round_)
    summary = private.summary()
    assert summary["sites"]["site-1"] == {"rounds": 2, "epsilon": epsilon_of(2.0, 2, 1e-6)}
    assert summary["sites"]["site-0"] == {"rounds": 4, "epsilon": epsilon_of(2.0, 4, 1e-6)}
    assert summary["epsilon"] == summary["sites"]["site-2"]["epsilon"]
    assert (summary["unit"], summary["delta"]) == ("site", 1e-6)
    assert json.loads(json.dumps(summary)) == summary
    assert private.of_round(3) == private.rounds[2]
    assert private.rounds[2].sites == ("site-0", "site-2")
    assert private.of_round(5) is None


def test_an_adaptive_clip_costs_what_a_fixed_one_does() -> None:
    spent = []
    for spec in ("fixed(noise=2.0)", "adaptive(noise=2.0)"):
        private = privacy(spec)
        mean_of(private, ZERO, answers_of(ZERO, updates(1.0)))
        spent.append(private.summary()["epsilon"])
    assert spent[0] == spent[1] == epsilon_of(2.0, 1, 1e-5)


def test_nothing_is_spent_before_the_first_round() -> None:
    assert privacy("fixed").summary()["epsilon"] == 0.0


def test_a_run_goes_on_where_it_stopped() -> None:
    first, again = privacy("adaptive"), privacy("adaptive")
    answers = answers_of(ZERO, updates(1.0))
    mean_of(first, ZERO, answers, 1)
    again.resume(json.loads(json.dumps(first.state())))
    for private in (first, again):
        mean_of(private, ZERO, answers, 2)
    assert again.clip == first.clip
    assert again.summary() == first.summary()
    assert again.summary()["sites"]["site-0"]["rounds"] == 2
