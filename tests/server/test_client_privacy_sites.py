"""Sites that clip, or add the noise, themselves: what is asked of them, and how they are judged."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedmedpeft.exchange import Manifest, PeftState, TensorSpec
from fedmedpeft.privacy.client_update import protect
from fedmedpeft.privacy.randomness import SeededRandomness
from server.quarantine import Quarantined
from tests.server.private_means import (
    MANIFEST,
    ZERO,
    answers_of,
    dense,
    mean_of,
    privacy,
    state_from,
    updates,
)

AT_SITE = "fixed(clip=0.5, clip_at='site')"
NOISED_AT_SITE = "fixed(clip=0.5, clip_at='site', noise_at='site')"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("spec", [AT_SITE, NOISED_AT_SITE, "adaptive(clip=0.5, clip_at='site')"])
def test_an_honest_site_passes_whatever_float32_makes_of_it(spec: str, size: float, scale: float) -> None:
    start, private = state_from(size * np.random.default_rng(5).standard_normal(17)), privacy(spec)
    for seed, move in enumerate(updates(scale, 20)):
        trained = state_from(dense(start) + move)
        sent = protect(private.level, private.asked_clip, start.vectors, trained.vectors, SeededRandomness(seed))
        private.vet(start, PeftState(MANIFEST, sent[0]), sent[1])


@pytest.mark.parametrize(("spec", "length"), [(AT_SITE, 0.501), (NOISED_AT_SITE, 10.0)])
def test_a_site_that_did_not_clip_is_left_out(spec: str, length: float) -> None:
    too_long = state_from(np.full(17, length / math.sqrt(17)))
    with pytest.raises(Quarantined, match="was to be clipped"):
        privacy(spec).vet(ZERO, too_long, None)
    privacy("fixed(clip=0.5)").vet(ZERO, too_long, None)


def test_a_site_is_judged_by_what_it_sent_alone() -> None:
    part = MANIFEST.only({"head.bias"})
    privacy(AT_SITE).vet(state_from(np.full(17, 100.0)), state_from(np.full(17, 100.1)).only(part), None)


def test_an_adaptive_clip_needs_to_be_told_and_is_not_lied_to() -> None:
    private = privacy("adaptive(clip=0.5, clip_at='site')")
    short, full = (state_from(np.full(17, length / math.sqrt(17))) for length in (0.4, 0.5))
    with pytest.raises(Quarantined, match="does not say"):
        private.vet(ZERO, short, None)
    with pytest.raises(Quarantined, match="shorter than the clip"):
        private.vet(ZERO, short, False)
    private.vet(ZERO, short, True)
    private.vet(ZERO, full, False)


def test_what_is_asked_of_sites() -> None:
    assert privacy("fixed(clip=0.5)").asked_clip == 0.0
    assert privacy(AT_SITE).asked_clip == 0.5
    adaptive = privacy("adaptive(clip=0.5, clip_at='site')")
    adaptive.mean(1, ZERO, answers_of(ZERO, updates(0.01)), {f"site-{index}": False for index in range(4)})
    assert adaptive.asked_clip == adaptive.clip == pytest.approx(0.5 * math.exp(0.1))


def test_the_server_clips_even_what_a_site_has_clipped() -> None:
    moved = mean_of(privacy(AT_SITE), ZERO, answers_of(ZERO, [np.full(17, 9.0), np.zeros(17)]))
    assert np.linalg.norm(moved) == pytest.approx(0.25, rel=1e-5)


def test_noise_of_the_sites_adds_up_in_the_mean() -> None:
    manifest = Manifest.of([TensorSpec("head.weight", (40_000,), "head")])
    start = PeftState(manifest, {"head": np.zeros(40_000, np.float32)})
    private, answers = privacy(NOISED_AT_SITE), {}
    for index in range(4):
        values, within = protect(
            private.level, private.asked_clip, start.vectors, start.vectors, SeededRandomness(index)
        )
        answers[f"site-{index}"] = PeftState(manifest, values)
        private.vet(start, answers[f"site-{index}"], within)
    moved = private.mean(1, start, answers, dict.fromkeys(answers))
    assert moved.vectors["head"].std() == pytest.approx(0.5 / math.sqrt(4), rel=0.03)
    assert private.rounds[0].noise == pytest.approx(0.25)


def test_a_site_that_adds_the_noise_pays_for_what_the_server_may_have_seen_used_or_not() -> None:
    private, answers = privacy(NOISED_AT_SITE), answers_of(ZERO, updates(0.1, 2))
    private.ask(answers)
    private.ask(["site-1"])
    assert private.state()["paid"] == {"site-0": 1, "site-1": 2}
    mean_of(private, ZERO, answers)
    assert private.state()["paid"] == {"site-0": 1, "site-1": 2}


def test_where_the_server_adds_it_only_what_is_used_is_paid_for() -> None:
    private = privacy(AT_SITE)
    private.ask(["site-0"])
    private.vet(ZERO, ZERO, None)
    assert private.state()["paid"] == {}
