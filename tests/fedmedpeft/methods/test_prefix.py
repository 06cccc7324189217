"""Prefix tuning and P-Tuning v2 against attention over concatenated keys and values, written out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from fedmedpeft.backbones import Backbone, load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.learner import UnsuitableBackbone, learner_skeleton
from fedmedpeft.methods import METHODS, Initialiser
from fedmedpeft.text import Text


def _adapted(name: str, method: str) -> tuple[Backbone, dict[str, nn.Parameter]]:
    backbone = load_backbone(name)
    built = METHODS.build(method)
    with backbone.within(built.options.parts or backbone.parts):
        parameters = built.insert(backbone, Initialiser(0, torch.device("cpu")))
    return backbone.eval(), parameters


def _keys_and_values(method: str, parameters: dict[str, nn.Parameter], block: str) -> list[torch.Tensor]:
    """The prefixes [P, d] of one block, from the exchanged tensors alone."""
    if method == "p-tuning-v2":
        return [parameters[f"{block}.{role}.prefix"] for role in "kv"]
    shared = block.rpartition(".")[0] + ".prefix"
    weight, bias = parameters[f"{shared}.hidden.weight"], parameters[f"{shared}.hidden.bias"]
    hidden = (parameters[f"{shared}.embedding"] @ weight.T + bias).tanh()
    return [
        hidden @ parameters[f"{block}.{role}.prefix.weight"].T + parameters[f"{block}.{role}.prefix.bias"]
        for role in "kv"
    ]


@pytest.mark.parametrize("method", ["prefix", "p-tuning-v2"])
@torch.no_grad()
def test_attends_to_learned_keys_and_values_in_front(method: str, tiny_backbone: Path) -> None:
    backbone, parameters = _adapted(str(tiny_backbone), f"{method}(tokens=3)")
    attention = backbone.get_submodule("blocks.1.attention.attention")
    x = torch.randn(2, 17, 16, generator=torch.Generator().manual_seed(2))
    q = attention.q(x)
    pairs = zip(_keys_and_values(method, parameters, "blocks.1"), (attention.k.base, attention.v.base), strict=True)
    k, v = (torch.cat([prefix.expand(2, -1, -1), base(x)], dim=1) for prefix, base in pairs)
    heads = []
    for one in (slice(0, 8), slice(8, 16)):
        scores = q[..., one] @ k[..., one].transpose(1, 2) / math.sqrt(8)
        heads.append(scores.softmax(-1) @ v[..., one])
    torch.testing.assert_close(attention(x), attention.o(torch.cat(heads, dim=-1)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["prefix", "p-tuning-v2"])
def test_one_in_every_self_attention_or_in_every_attention(method: str, tiny_meter: str) -> None:
    def places(options: str) -> set[str]:
        keys = _adapted(tiny_meter, f"{method}({options})")[1]
        return {key.partition(".prefix")[0] for key in keys if key.partition(".prefix")[0].endswith((".k", ".v"))}

    blocks = [f"{part}.blocks.{i}" for part in ("vision", "text") for i in range(2)]
    blocks += [f"fusion.{i}.{modality}" for i in range(2) for modality in ("text", "image")]
    assert places("") == {f"{block}.{role}" for block in blocks for role in "kv"}
    crossed = {f"{block}.cross.{role}" for block in blocks[4:] for role in "kv"}
    assert places("cross=true") == places("") | crossed
    assert places("where='text'") == {f"text.blocks.{i}.{role}" for i in range(2) for role in "kv"}


def test_each_network_has_its_own_mlp(tiny_meter: str) -> None:
    keys = _adapted(tiny_meter, "prefix(cross=true)")[1]
    shared = {key.removesuffix(".embedding") for key in keys if key.endswith(".embedding")}
    assert shared == {"vision.blocks.prefix", "text.blocks.prefix", "fusion.text.prefix", "fusion.image.prefix"}


@torch.no_grad()
def test_padding_stays_unseen(tiny_meter: str) -> None:
    """The mask is of the words; the prefix in front of them is seen all the same."""
    backbone, _ = _adapted(tiny_meter, "prefix(where='text')")
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    mask = torch.tensor([[True] * 4 + [False] * 2])
    longer = backbone.text(Text(ids, mask))  # type: ignore[operator]
    shorter = backbone.text(Text(ids[:, :4], mask[:, :4]))  # type: ignore[operator]
    torch.testing.assert_close(longer[:, :4], shorter, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_an_offset_moves_the_words_positions(tiny_meter: str) -> None:
    plain, moved = (_adapted(tiny_meter, f"prefix(tokens=3, offset={flag})")[0] for flag in ("false", "true"))
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    before = plain.get_submodule("text.embed")
    assert hasattr(before, "position")
    shift = before.position.weight[3:7] - before.position.weight[:4]
    torch.testing.assert_close(moved.get_submodule("text.embed")(ids), before(ids) + shift, rtol=1e-5, atol=1e-5)


def test_an_offset_beyond_the_positions_is_refused(tiny_meter: str, tiny_backbone: Path) -> None:
    with pytest.raises(ConfigError, match="beyond the 32 positions of 'text.embed'"):
        _adapted(tiny_meter, "p-tuning-v2(tokens=13, offset=true)")
    with pytest.raises(UnsuitableBackbone, match="acts on 'word_embed'"):
        learner_skeleton(load_backbone(str(tiny_backbone)).record, "prefix(offset=true)", "ab")
