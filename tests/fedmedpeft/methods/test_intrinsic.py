"""Methods that train parameters which the backbone has already."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedmedpeft.backbones import MissingPlace, load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.methods import METHODS, Initialiser


def _trained(directory: Path, method: str) -> set[str]:
    backbone = load_backbone(str(directory))
    chosen = METHODS.build(method).insert(backbone, Initialiser(0, torch.device("cpu")))
    own = backbone.original_parameters()
    assert all(chosen[key] is own[key] for key in chosen)
    return set(chosen)


def test_attention_is_its_four_projections(tiny_backbone: Path) -> None:
    expected = {f"blocks.{b}.{r}.{n}" for b in range(2) for r in "qkvo" for n in ("weight", "bias")}
    assert _trained(tiny_backbone, "attention") == expected
    assert _trained(tiny_backbone, "attention(position=true)") == expected | {"embed.position"}


def test_ffn_is_its_two_projections(tiny_backbone: Path) -> None:
    expected = {f"blocks.{b}.{r}.{n}" for b in range(2) for r in ("ffn_in", "ffn_out") for n in ("weight", "bias")}
    assert _trained(tiny_backbone, "ffn") == expected


def test_blocks_are_counted_from_the_readout(tiny_backbone: Path) -> None:
    last = _trained(tiny_backbone, "blocks(last=1)")
    assert last == {key for key in _trained(tiny_backbone, "full") if key.startswith("blocks.1.")}
    assert {key.split(".")[2] for key in last} == {"norm1", "q", "k", "v", "o", "norm2", "ffn_in", "ffn_out"}
    with pytest.raises(ConfigError, match="the backbone has 2 blocks"):
        _trained(tiny_backbone, "blocks(last=3)")


def test_blocks_of_a_convolutional_network(tiny_resnet: Path) -> None:
    last = _trained(tiny_resnet, "blocks(last=1)")
    assert last
    assert last < _trained(tiny_resnet, "full")


@pytest.mark.parametrize("method", ["attention", "ffn", "position"])
def test_what_a_convolutional_network_lacks(tiny_resnet: Path, method: str) -> None:
    with pytest.raises(MissingPlace):
        _trained(tiny_resnet, method)
