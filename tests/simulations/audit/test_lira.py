from __future__ import annotations

import numpy as np
import pytest

from simulations.audit.lira import Variant, logit_confidence, membership_scores
from simulations.audit.membership import draw_members
from simulations.audit.roc import auc

VARIANTS: tuple[Variant, ...] = ("online", "offline", "loss")


def _simulated(models: int, units: int, gain: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences whose difficulty varies far more between units than training on one moves it."""
    generator = np.random.default_rng(seed)
    members = draw_members(models, units, seed)
    difficulty = generator.normal(scale=5, size=units)
    return difficulty + gain * members + generator.normal(size=(models, units)), members


def _auc(scores: np.ndarray, members: np.ndarray) -> float:
    return float(np.mean([auc(*pair) for pair in zip(scores, members, strict=True)]))


@pytest.mark.parametrize("models", [4, 16, 70])
@pytest.mark.parametrize("variant", VARIANTS)
def test_guessing_where_training_leaves_no_trace(models: int, variant: Variant) -> None:
    confidence, members = _simulated(models, 600, gain=0.0)
    assert _auc(membership_scores(confidence, members, variant), members) == pytest.approx(0.5, abs=0.04)


def test_shadows_find_what_a_threshold_cannot() -> None:
    """A shift of two standard deviations of the noise: 0.92 for whoever knows each unit's mean (Phi(sqrt 2))."""
    confidence, members = _simulated(16, 400, gain=2.0)
    found = {variant: _auc(membership_scores(confidence, members, variant), members) for variant in VARIANTS}
    assert found["online"] == pytest.approx(0.90, abs=0.03)
    assert found["offline"] == pytest.approx(0.90, abs=0.03)
    assert found["loss"] < 0.65


def test_many_shadows_give_each_unit_its_own_variance() -> None:
    """Every other unit is ten times as noisy: the members to trust are those of quiet units."""
    generator = np.random.default_rng(1)
    members = draw_members(72, 300, 1)
    noise = np.where(np.arange(300) % 2, 10.0, 1.0)
    confidence = 2.0 * members + noise * generator.normal(size=(72, 300))
    own = membership_scores(confidence, members, "online")
    shared = membership_scores(confidence[:60], members[:60], "online")
    assert _auc(own, members) > _auc(shared, members[:60]) + 0.03


def test_a_unit_without_shadows_on_a_side_gets_no_score() -> None:
    confidence, members = _simulated(4, 10, gain=1.0)
    members[:, 0], members[:, 1] = True, False
    assert (membership_scores(confidence, members, "online")[:, :2] == 0).all()
    assert (membership_scores(confidence, members, "offline")[:, 0] == 0).all()


def test_confidence_is_the_logit() -> None:
    probability = np.array([0.01, 0.5, 0.99])
    found = logit_confidence(-np.log(probability))
    np.testing.assert_allclose(found, np.log(probability / (1 - probability)), rtol=1e-9)
    assert np.isfinite(logit_confidence(np.array([0.0, 800.0]))).all()
