"""What each method exchanges on the published sizes: integers that follow from arithmetic, not from running the code.

With d the width, L the blocks, f = 4 d the feed-forward width, b a bottleneck, r a rank, p prompts, 197 = 1 + 14^2
tokens. The column of ViT-B holds the figures of Dutt et al. (MIDL 2024, table 6) and of Alkhunaizi et al.'s ladder.
"""

from __future__ import annotations

from functools import cache

import pytest

from fedmedpeft.backbones import standard_record
from fedmedpeft.exchange.manifest import Manifest
from fedmedpeft.learner import learner_skeleton
from fedmedpeft.methods import METHODS

_SIZES = ("ti", "s", "b", "l")

# Method, then its parameters on ViT-Ti (d=192, L=12), S (384, 12), B (768, 12) and L (1024, 24).
_COUNTS = {
    "head": (0, 0, 0, 0),
    # p prompts of width d, once or in every block; with a projection of width k: p k, and (k + 1) d once.
    "vpt-shallow": (1_920, 3_840, 7_680, 10_240),
    "vpt-shallow(tokens=50)": (9_600, 19_200, 38_400, 51_200),
    "vpt-shallow(tokens=50, project=64)": (15_680, 28_160, 53_120, 69_760),
    "vpt-deep": (23_040, 46_080, 92_160, 245_760),
    "vpt-deep(tokens=50)": (115_200, 230_400, 460_800, 1_228_800),
    "vpt-deep(tokens=50, project=64)": (50_880, 63_360, 88_320, 143_360),
    # r (p + d), once or in every block
    "decomposed-vpt(tokens=10, rank=2, deep=false)": (404, 788, 1_556, 2_068),
    "decomposed-vpt": (23_232, 41_664, 78_528, 206_208),
    # 2 d for each of 2 L + 1 norms
    "layernorm": (9_600, 19_200, 38_400, 100_352),
    # patch d; in each block q, k, v, o, two norms and ffn_out d each, ffn_in f; the last norm d
    "bitfit": (25_728, 51_456, 102_912, 272_384),
    # a scale and a shift where bitfit has a bias: twice as many
    "ssf": (51_456, 102_912, 205_824, 544_768),
    # 197 d
    "position": (37_824, 75_648, 151_296, 201_728),
    # r (d + d) for each of q and v, or for all four; r (d + f) for each of ffn_in and ffn_out
    "lora(rank=4)": (36_864, 73_728, 147_456, 393_216),
    "lora": (73_728, 147_456, 294_912, 786_432),
    "lora(rank=16)": (147_456, 294_912, 589_824, 1_572_864),
    "lora(rank=16, targets='q,k,v,o,ffn_in,ffn_out')": (663_552, 1_327_104, 2_654_208, 7_077_888),
    # 2 d b + b + d for each bottleneck, and 2 d for a norm of its own; b = 64 unless stated, b = d // 3 in kpl-adapter
    "pfeiffer(bottleneck=16)": (76_224, 152_256, 304_320, 811_392),
    "pfeiffer": (297_984, 595_200, 1_189_632, 3_171_840),
    "adaptformer": (297_984, 595_200, 1_189_632, 3_171_840),
    "adaptformer(layernorm=true)": (302_592, 604_416, 1_208_064, 3_220_992),
    "houlsby": (595_968, 1_190_400, 2_379_264, 6_343_680),
    "kpl-adapter": (297_984, 1_185_792, 4_730_880, 16_793_592),
    "kpl-adapter(placement='parallel')": (297_984, 1_185_792, 4_730_880, 16_793_592),
    # p keys and p values of width d in each block, or d (d + 1) for each and for what they share, with p d
    "p-tuning-v2": (46_080, 92_160, 184_320, 491_520),
    "prefix": (928_320, 3_699_840, 14_772_480, 51_440_640),
    # attention 4 (d^2 + d), feed-forward 2 d f + f + d, norms 4 d in each block
    "attention": (1_778_688, 7_096_320, 28_348_416, 100_761_600),
    "attention(position=true)": (1_816_512, 7_171_968, 28_499_712, 100_963_328),
    "sba": (1_778_688, 7_096_320, 28_348_416, 100_761_600),
    "ffn": (3_550_464, 14_178_816, 56_669_184, 201_449_472),
    "blocks": (889_728, 3_548_928, 14_175_744, 25_192_448),
    # all blocks, class token and position (1 + 197) d, patch (3 16^2 + 1) d, last norm 2 d
    "full": (5_524_416, 21_665_664, 85_798_656, 303_301_632),
    # methods side by side add up; the biases of norms, in both, count once
    "lora+vpt-deep": (96_768, 193_536, 387_072, 1_032_192),
    "bitfit+layernorm": (30_528, 61_056, 122_112, 322_560),
}

# Eight classes on ViT-B: tensors, parameters, and bytes as float32, float16 and int8 with a float32 scale per tensor.
_PAYLOADS = {
    "full": (200, 85_804_808, 343_219_232, 171_609_616, 85_805_608),
    "head": (2, 6_152, 24_608, 12_304, 6_160),
    "layernorm": (52, 44_552, 178_208, 89_104, 44_760),
    "attention": (98, 28_354_568, 113_418_272, 56_709_136, 28_354_960),
    "blocks": (34, 14_181_896, 56_727_584, 28_363_792, 14_182_032),
    "lora(rank=4)": (50, 153_608, 614_432, 307_216, 153_808),
    "lora": (50, 301_064, 1_204_256, 602_128, 301_264),
    "lora(rank=16)": (50, 595_976, 2_383_904, 1_191_952, 596_176),
    "lora(rank=16, targets='q,k,v,o,ffn_in,ffn_out')": (146, 2_660_360, 10_641_440, 5_320_720, 2_660_944),
    "houlsby": (98, 2_385_416, 9_541_664, 4_770_832, 2_385_808),
    "pfeiffer": (50, 1_195_784, 4_783_136, 2_391_568, 1_195_984),
    "pfeiffer(bottleneck=16)": (50, 310_472, 1_241_888, 620_944, 310_672),
    "adaptformer": (50, 1_195_784, 4_783_136, 2_391_568, 1_195_984),
    "vpt-shallow(tokens=50)": (3, 44_552, 178_208, 89_104, 44_564),
    "vpt-deep": (14, 98_312, 393_248, 196_624, 98_368),
    "vpt-deep(tokens=50)": (14, 466_952, 1_867_808, 933_904, 467_008),
}


@cache
def _manifest(method: str, size: str) -> Manifest:
    return learner_skeleton(standard_record(size), method, [str(index) for index in range(8)]).manifest()


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("method", _COUNTS)
def test_counts(method: str, size: str) -> None:
    width = {"ti": 192, "s": 384, "b": 768, "l": 1024}[size]
    assert _manifest(method, size).numel("method") == _COUNTS[method][_SIZES.index(size)]
    assert _manifest(method, size).numel("head") == 8 * (width + 1)


@pytest.mark.parametrize("method", _PAYLOADS)
def test_bytes_in_each_encoding(method: str) -> None:
    manifest = _manifest(method, "b")
    encoded = [manifest.payload("float32"), manifest.payload("float16"), manifest.payload("int8")]
    assert (len(manifest.tensors), manifest.numel(), *encoded) == _PAYLOADS[method]
    assert manifest.nbytes == encoded[0]


def test_every_method_of_a_transformer_is_counted() -> None:
    """Those of Hugging Face peft, by name, and those for other backbones have counts beside their own tests."""
    elsewhere = {"batchnorm", "tsa", "dynamic-vpt", "textual-prompts", "sadapter", "kpl", "m3ad"}
    ours = {name for name in METHODS.names() if not name.startswith("peft:")}
    assert ours - elsewhere == {name.partition("(")[0] for name in _COUNTS if "+" not in name}
