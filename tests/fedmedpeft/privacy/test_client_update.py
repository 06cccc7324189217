"""One site's update, clipped and noised: beside Flower's functions where they fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
from flwr.supercore.differential_privacy import clip_inputs_inplace
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmedpeft.components import ConfigError
from fedmedpeft.privacy.client_level import client_level
from fedmedpeft.privacy.client_update import clip, length_of, noised, protect
from fedmedpeft.privacy.randomness import SeededRandomness, SystemRandomness

FLOATS = st.floats(-1e6, 1e6, width=32)
SENT = {"method": np.linspace(-1, 1, 6, dtype=np.float32), "head": np.full(2, 0.5, np.float32)}


def moved(by: float) -> dict[str, np.ndarray]:
    """``SENT``, each number moved by ``by``: an update of norm ``by * sqrt(8)``."""
    return {part: (vector + by).astype(np.float32) for part, vector in SENT.items()}


def update_of(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {part: vector.astype(np.float64) - SENT[part] for part, vector in values.items()}


@given(arrays(np.float32, 5, elements=FLOATS), arrays(np.float32, 3, elements=FLOATS), st.floats(1e-6, 1e6))
def test_all_parts_together_are_scaled_to_the_clip(method: np.ndarray, head: np.ndarray, norm: float) -> None:
    clipped, within = clip({"method": method, "head": head}, norm)
    whole = np.concatenate([method, head]).astype(np.float64)
    length = np.linalg.norm(whole)
    result = np.concatenate([clipped["method"], clipped["head"]])
    assert length_of(clipped) <= norm * (1 + 1e-12)
    assert within == (length_of({"whole": whole}) <= norm)
    expected = whole if within else whole * (norm / length)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_a_zero_update_stays_zero_and_ends_flowers_run() -> None:
    with pytest.raises(ZeroDivisionError):
        clip_inputs_inplace([np.zeros(3)], 1.0)
    clipped, within = clip({"method": np.zeros(3, np.float32)}, 1.0)
    assert within
    assert not clipped["method"].any()


def test_an_update_as_long_as_the_clip_is_within_it() -> None:
    clipped, within = clip({"method": np.array([3.0]), "head": np.array([4.0])}, 5.0)
    assert within
    assert (clipped["method"][0], clipped["head"][0]) == (3.0, 4.0)


def test_what_came_is_not_changed() -> None:
    update = {"method": np.full(4, 9.0, np.float32)}
    clip(update, 1.0)
    assert (update["method"] == 9).all()


def test_a_site_sends_its_state_as_it_is_where_the_server_clips() -> None:
    for level in (None, client_level("fixed"), client_level("adaptive")):
        values, within = protect(level, 0.0, SENT, moved(5.0), SeededRandomness(0))
        assert within is None
        assert all(np.array_equal(values[part], vector) for part, vector in moved(5.0).items())


def test_a_site_refuses_to_clip_where_its_run_does_not() -> None:
    for level in (None, client_level("fixed")):
        with pytest.raises(ConfigError, match="has no site clip"):
            protect(level, 1.0, SENT, moved(5.0), SeededRandomness(0))
    with pytest.raises(ConfigError, match="asks for a clip of 0"):
        protect(client_level("fixed(clip_at='site')"), 0.0, SENT, moved(5.0), SeededRandomness(0))


@pytest.mark.parametrize(
    ("spec", "told"), [("fixed(clip=0.5, clip_at='site')", False), ("adaptive(clip_at='site')", True)]
)
def test_a_site_clips_and_tells_only_what_is_needed(spec: str, told: bool) -> None:
    long, short = moved(5.0), moved(0.01)
    values, within = protect(client_level(spec), 0.5, SENT, long, SeededRandomness(0))
    assert length_of(update_of(values)) == pytest.approx(0.5, abs=1e-6)
    assert within is (False if told else None)
    values, within = protect(client_level(spec), 0.5, SENT, short, SeededRandomness(0))
    assert all(np.array_equal(values[part], vector) for part, vector in short.items())
    assert within is (True if told else None)
    assert all(vector.dtype == np.float32 for vector in values.values())


def test_a_site_that_trusts_nobody_adds_the_noise_itself() -> None:
    level = client_level("fixed(clip=0.5, noise=3.0, clip_at='site', noise_at='site')")
    sent = {"method": np.zeros(50_000, np.float32)}
    trained = {"method": np.full(50_000, 1.0, np.float32)}
    values, within = protect(level, 0.5, sent, trained, SeededRandomness(0))
    assert within is None
    assert values["method"].std() == pytest.approx(1.5, rel=0.02)
    assert values["method"].mean() == pytest.approx(0.5 / math.sqrt(50_000), abs=0.03)


def test_noise_comes_from_the_system_whatever_numpys_seed() -> None:
    drawn = []
    for _ in range(2):
        np.random.seed(0)
        drawn.append(noised({"method": np.zeros(8)}, 1.0, SystemRandomness())["method"])
    assert not np.array_equal(*drawn)
    assert all(noise.any() for noise in drawn)


def test_parts_have_noise_of_their_own() -> None:
    both = noised({"method": np.zeros(8), "head": np.zeros(8)}, 1.0, SeededRandomness(0))
    assert not np.array_equal(both["method"], both["head"])
