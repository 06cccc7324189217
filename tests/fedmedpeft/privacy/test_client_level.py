"""What a run may say of privacy of whole sites, and how its clip moves: beside Flower's, which moves the other way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from flwr.serverapp.strategy import DifferentialPrivacyServerSideAdaptiveClipping, FedAvg
from flwr.supercore.differential_privacy import compute_adaptive_noise_params
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.components import ConfigError
from fedmedpeft.privacy.client_level import (
    DELTA,
    LARGEST_CLIP,
    LEAST_CLIP,
    Adaptation,
    ClientLevel,
    client_level,
)


def level(spec: str) -> ClientLevel:
    built = client_level(spec)
    assert built is not None
    return built


def test_off_is_off() -> None:
    assert client_level("off") is None


def test_what_is_left_out() -> None:
    fixed = level("fixed")
    assert fixed == ClientLevel(1.0, 1.0, 1.0, "server", "server", DELTA)
    adaptive = level("adaptive")
    assert (adaptive.clip, adaptive.noise, adaptive.clip_at, adaptive.noise_at) == (0.1, 1.0, "server", "server")
    assert adaptive.adaptation is not None
    assert (adaptive.adaptation.quantile, adaptive.adaptation.rate) == (0.5, 0.2)


def test_what_is_set() -> None:
    spec = "fixed(clip=0.5, noise=2, clip_at='site', noise_at='site', delta=1e-6)"
    assert level(spec) == ClientLevel(0.5, 2.0, 2.0, "site", "site", 1e-6)


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        ("fixed(noise=0)", "noise=0"),
        ("fixed(noise=-1)", "noise=-1"),
        ("adaptive(noise=inf)", "noise=inf"),
        ("fixed(noise=nan)", "noise=nan"),
        ("fixed(clip=0)", "clip=0"),
        ("fixed(clip=inf)", "clip=inf"),
        ("fixed(delta=0.2)", "delta=0.2"),
        ("fixed(noise_at='site')", "set clip_at='site' too"),
        ("fixed(clip_at='hospital')", "'server' or 'site'"),
        ("adaptive(noise_at='site', clip_at='site')", "has no option 'noise_at'"),
        ("adaptive(quantile=1)", "quantile=1"),
        ("adaptive(noise=2, bit_noise=1)", "set it to 1.02 or more"),
        ("fixd", "Did you mean 'fixed'"),
        ("fixed(sigma=1)", "has no option 'sigma'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(spec: str, finding: str) -> None:
    with pytest.raises(ConfigError, match="client-privacy") as error:
        client_level(spec)
    assert finding in str(error.value)


@given(st.floats(0.02, 1000), st.floats(0.5101, 1000))
def test_updates_and_bits_together_cost_what_is_configured(noise: float, share: float) -> None:
    for spec in (f"adaptive(noise={noise!r})", f"adaptive(noise={noise!r}, bit_noise={noise * share!r})"):
        adaptive = level(spec)
        assert adaptive.adaptation is not None
        both = adaptive.update_noise**-2 + (2 * adaptive.adaptation.bit_noise) ** -2
        assert both == pytest.approx(noise**-2, rel=1e-9)


def test_a_tenth_of_the_budget_goes_to_the_bits() -> None:
    adaptive = level("adaptive(noise=3.0)")
    assert adaptive.adaptation is not None
    assert (2 * adaptive.adaptation.bit_noise) ** -2 == pytest.approx(0.1 * 3.0**-2)
    assert adaptive.update_noise == pytest.approx(3.0 / math.sqrt(0.9))


def test_few_sites_have_a_default_where_flower_has_none() -> None:
    with pytest.raises(ValueError, match="too low"):
        compute_adaptive_noise_params(1.0, 4, None)
    assert level("adaptive(noise=1.0)").noise_of_mean(0.1, 4) == pytest.approx(0.1 / math.sqrt(0.9) / 4)


def test_noise_of_the_mean() -> None:
    assert level("fixed(noise=2.0)").noise_of_mean(3.0, 4) == pytest.approx(1.5)
    assert level("fixed(noise=2.0, clip_at='site', noise_at='site')").noise_of_mean(3.0, 4) == pytest.approx(3.0)


@pytest.mark.parametrize(("norm", "clip", "grows"), [(100.0, 0.1, True), (0.001, 0.1, False)])
def test_the_clip_moves_towards_the_updates_and_flowers_away(norm: float, clip: float, grows: bool) -> None:
    ours = Adaptation(quantile=0.5, rate=0.2, bit_noise=1.0).next_clip(clip, within=float(norm <= clip))
    assert ours == pytest.approx(clip * math.exp(0.1 if grows else -0.1))
    theirs = DifferentialPrivacyServerSideAdaptiveClipping(FedAvg(), 0.0, 4, clip, 0.5, 0.2, 0.0)
    # Flower counts the updates that were clipped where the paper counts those that were not.
    theirs._geometric_update(clipped_fraction=float(norm > clip))
    assert (theirs.clipping_norm > clip) is not grows


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("start", [1e-3, 1e3])
def test_the_clip_finds_the_quantile(quantile: float, start: float) -> None:
    norms = np.random.default_rng(0).lognormal(size=1000)
    adaptation, clip = Adaptation(quantile, 0.2, 1.0), start
    for _ in range(1000):
        clip = adaptation.next_clip(clip, float((norms <= clip).mean()))
    assert clip == pytest.approx(np.quantile(norms, quantile), rel=0.02)


@given(st.floats(LEAST_CLIP, LARGEST_CLIP), st.floats(-1e6, 1e6))
def test_the_clip_stays_within_its_bounds_whatever_the_noise(clip: float, within: float) -> None:
    assert LEAST_CLIP <= Adaptation(0.5, 10.0, 1.0).next_clip(clip, within) <= LARGEST_CLIP


def test_a_site_clips_only_as_configured() -> None:
    fixed, adaptive = level("fixed(clip=0.5, clip_at='site')"), level("adaptive(clip_at='site')")
    assert fixed.agreed_clip(0.5) == 0.5
    assert adaptive.agreed_clip(0.7) == 0.7
    with pytest.raises(ConfigError, match="0.7, client-privacy says 0.5"):
        fixed.agreed_clip(0.7)
    for asked in (0.0, -1.0, math.nan, math.inf, 1e7):
        with pytest.raises(ConfigError, match="asks for a clip"):
            adaptive.agreed_clip(asked)
