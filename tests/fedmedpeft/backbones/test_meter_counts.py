"""METER's published sizes, part by part, without weights."""

from __future__ import annotations

import pytest
from torch import nn

from fedmedpeft.backbones import skeleton, standard_meter_record
from fedmedpeft.backbones.meter import Meter

# Stored in checkpoints and used by nothing: RoBERTa's pooler; positions and last norm of CLIP's text tower.
_POOLER, _LEFTOVERS = 768 * 768 + 768, 77 * 512 + 2 * 512

_VISION = {224: 78_711_552, 288: 78_809_856, 384: 79_003_392, 576: 79_556_352}
_TOTAL = {224: 319_182_848, 288: 319_281_152, 384: 319_474_688, 576: 320_027_648}


def _meter(image_size: int = 288) -> Meter:
    backbone = skeleton(standard_meter_record(image_size))
    assert isinstance(backbone, Meter)
    return backbone


def _count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize("image_size", _TOTAL)
def test_totals(image_size: int) -> None:
    backbone = _meter(image_size)
    assert _count(backbone.vision) == _VISION[image_size]
    assert _count(backbone) + _POOLER + _LEFTOVERS == _TOTAL[image_size]


def test_parts() -> None:
    backbone = _meter()
    fusion = backbone.fusion
    assert (_POOLER, _LEFTOVERS) == (590_592, 40_448)
    assert _count(backbone.text) + _POOLER == 124_645_632
    assert _count(fusion.layers[0]) == 2 * 9_451_776
    assert _count(fusion.layers) == 113_421_312
    around = (fusion.text_transform, fusion.image_transform, fusion.type_embed, fusion.text_pooler, fusion.image_pooler)
    assert _count(*around) == 2_363_904


def test_the_pretraining_checkpoint() -> None:
    """With the heads of masked language modelling and image-text matching."""
    transform = nn.ModuleList([nn.Linear(768, 768, device="meta"), nn.LayerNorm(768, device="meta")])
    words = 50265 * 768 + 50265
    matching = nn.Linear(1536, 2, device="meta")
    assert _count(_meter(), transform, matching) + words + _POOLER + _LEFTOVERS == 358_530_139


@pytest.mark.parametrize(
    ("answers", "expected"), [(79, 2_485_327), (222, 2_705_118), (498, 3_129_330), (3129, 7_173_177)]
)
def test_heads_for_questions(answers: int, expected: int) -> None:
    wide = _meter().feature_size
    head = nn.Sequential(nn.Linear(wide, wide), nn.LayerNorm(wide), nn.GELU(), nn.Linear(wide, answers))
    assert _count(head) == expected
