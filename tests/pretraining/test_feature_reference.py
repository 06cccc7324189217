from __future__ import annotations

import pytest

from fedmedpeft.backbones import EMBEDDED, load_backbone
from fedmedpeft.privacy.domain import shipped_reference
from pretraining.feature_reference import reference_of_formulas
from pretraining.pretrain import Recipe


def test_a_smaller_reference_is_near_the_shipped_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rendering of the first formulas of the recipe: the shipped file is of such images, and of this network."""
    monkeypatch.setattr(Recipe, "categories", 120)
    backbone = load_backbone(EMBEDDED)
    made = reference_of_formulas(backbone, renderings=1, seed=0)
    shipped = shipped_reference(backbone)
    assert shipped is not None
    assert (made.samples, made.fingerprint) == (120, shipped.fingerprint)
    assert ((made.mean - shipped.mean) / shipped.std).abs().mean() < 0.12
    assert (made.std / shipped.std).log().abs().mean() < 0.15
    assert made.threshold == pytest.approx(shipped.threshold, rel=0.5)
