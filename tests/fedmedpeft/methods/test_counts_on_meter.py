"""What each method exchanges on METER as published: integers that follow from arithmetic, not from running the code.

CLIP-B/16 without its last block (11), RoBERTa-base (12), six co-attention layers of both modalities (12), all of them
d = 768 wide with f = 4 d, at 384 px: 577 tokens. So there are 35 blocks, and 47 attentions, 24 of which are in the
co-attention. The figures of LayerNorm, attention, FFN and KPL-METER are those that the papers' codes give.
"""

from __future__ import annotations

from functools import cache

import pytest

from fedmedpeft.backbones.record import standard_meter_record
from fedmedpeft.components import ConfigError
from fedmedpeft.exchange.manifest import Manifest
from fedmedpeft.learner import Learner, learner_skeleton
from fedmedpeft.methods import METHODS

_D, _F = 768, 3072
_ATTENTION = 4 * (_D * _D + _D)
_FFN = 2 * _D * _F + _F + _D
_NORM = 2 * _D
_BOTTLENECK = 2 * _D * 64 + 64 + _D  # of 64
_WIDE = 2 * _D * 256 + 256 + _D  # a third of the width
_SADAPTER = 3 * (_D * 128 + 128 + 128 * _D // 2 + _D // 2) + 2 * _NORM
_FUSION_ADAPTER = 2 * (_D * 64 + 64) + 4 * (64 * 64 + 64) + 64 * _D + _D
_CLASSES = 8

_COUNTS = {
    "head": 0,
    # two norms in each tower's block, three in the co-attention's; beside them CLIP's first and last, RoBERTa's first
    "layernorm": 130_560,
    "layernorm(where='vision')": (2 * 11 + 2) * _NORM,
    "layernorm(where='text')": (2 * 12 + 1) * _NORM,
    "layernorm(where='fusion')": 3 * 12 * _NORM,
    "attention": 111_031_296,
    "attention(where='fusion')": 24 * _ATTENTION,
    "sba": 47 * _ATTENTION,
    "ffn": 165_285_120,
    # q and v of every attention
    "lora": 1_155_072,
    "lora(where='fusion')": 589_824,
    "lora(where='vision,text')": 23 * 2 * 8 * 2 * _D,
    "pfeiffer": 35 * _BOTTLENECK,
    "pfeiffer(where='fusion')": 1_189_632,
    "houlsby": 82 * _BOTTLENECK,
    "adaptformer": 35 * _BOTTLENECK,
    "kpl-adapter": 23 * _WIDE,
    "sadapter": 6 * 446_976,
    "sadapter(unused_norm=false)": 6 * (446_976 - _NORM),
    "kpl": 11_749_376,
    "kpl(factor=4)": 9_486_912,
    "kpl(unused_norm=false)": 11_749_376 - 6 * _NORM,
    "m3ad": 82 * _BOTTLENECK + 12 * _FUSION_ADAPTER,
    "m3ad(cross=false)": 70 * _BOTTLENECK + 12 * _FUSION_ADAPTER,
    # in the image tower alone
    "vpt-shallow": 10 * _D,
    "vpt-deep": 11 * 10 * _D,
    "vpt-deep(project=64)": 11 * 10 * 64 + 65 * _D,
    "decomposed-vpt": 11 * 8 * (50 + _D),
    "dynamic-vpt": 4 * (2 * _D * 20 + 20 + _D + 1 + 50 * 20),
    "position": 577 * _D,
    # ten keys and ten values in each self-attention, or in each attention
    "p-tuning-v2": 35 * 2 * 10 * _D,
    "p-tuning-v2(cross=true)": 47 * 2 * 10 * _D,
    # an embedding and a layer for each of four stacks, and a layer for each key and value
    "prefix": 4 * (10 * _D + _D * _D + _D) + 35 * 2 * (_D * _D + _D),
    # attention 4 d, FFN f + d, norms; CLIP's patches have no bias, two transforms and two poolers have
    "bitfit": 47 * 4 * _D + 35 * (_F + _D) + 130_560 // 2 + 4 * _D,
    "ssf": 2 * (47 * 4 * _D + 35 * (_F + _D) + 130_560 // 2 + 4 * _D + _D),
    "blocks": 4 * (2 * _ATTENTION + _FFN + 3 * _NORM),
    "blocks(where='vision,text')": 4 * (_ATTENTION + _FFN + 2 * _NORM),
    "full": 318_843_648,
    "peft:ia3": 47 * 2 * _D + 35 * _F,
    "peft:lora": 1_155_072,
    "lora(where='fusion')+layernorm(where='vision,text')": 589_824 + (24 + 25) * _NORM,
}


@cache
def _manifest(method: str) -> Manifest:
    return learner_skeleton(standard_meter_record(384), method, [str(index) for index in range(_CLASSES)]).manifest()


@pytest.mark.parametrize("method", _COUNTS)
def test_counts(method: str) -> None:
    assert _manifest(method).numel("method") == _COUNTS[method]
    assert _manifest(method).numel("head") == _CLASSES * (2 * _D + 1)


def test_an_sadapter_is_as_large_as_published() -> None:
    assert _SADAPTER == 446_976
    assert _manifest("kpl").numel("method") == 23 * _WIDE + 6 * _SADAPTER


def test_every_method_that_acts_in_meter_is_counted() -> None:
    elsewhere = {"batchnorm", "tsa", "textual-prompts"}
    ours = {name for name in METHODS.names() if not name.startswith("peft:")}
    assert ours - elsewhere == {name.partition("(")[0] for name in _COUNTS if not name.startswith("peft:")}


def _learner(method: str) -> Learner:
    return learner_skeleton(standard_meter_record(384), method, "ab")


def test_sba_draws_one_attention() -> None:
    """Four groups for each depth of the co-attention; every group is as large as the next."""
    learner = _learner("sba")
    groups = list(learner.rotation.groups)
    assert len(groups) == 47
    assert groups[0] == "vision.blocks.0"
    assert groups[11] == "text.blocks.0"
    assert groups[23:27] == ["fusion.0.text", "fusion.0.text.cross", "fusion.0.image", "fusion.0.image.cross"]
    sizes = {learner.rotation.part(learner.manifest(), [group]).numel("method") for group in groups}
    assert sizes == {_ATTENTION}
    with_norms = _learner("sba(norms=true)")
    parts = {with_norms.rotation.part(with_norms.manifest(), [group]).numel("method") for group in groups}
    assert parts == {_ATTENTION + _NORM}


def test_the_last_blocks_are_those_of_the_network_that_makes_the_feature() -> None:
    assert {key.split(".")[0] for key in _learner("blocks").trainables} == {"fusion", "head"}
    assert {key.split(".")[1] for key in _learner("blocks(last=1)").trainables if key != "head"} >= {"5"}
    with pytest.raises(ConfigError, match="has 6 blocks in 'fusion'"):
        _learner("blocks(last=7)")
    with pytest.raises(ConfigError, match="has 11 blocks in 'vision'"):
        _learner("blocks(last=12, where='vision,text')")
