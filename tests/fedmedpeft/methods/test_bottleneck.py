"""Where adapters sit and what they compute, against the blocks' own modules called one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fedmedpeft.backbones import Transformer, as_transformer, load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.methods import METHODS, Initialiser

_CPU = torch.device("cpu")


def _pixels() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))


def _insert(directory: Path, method: str, scale: float = 0.3) -> tuple[Transformer, dict[str, nn.Parameter]]:
    """The adapted backbone and its parameters, moved to random values."""
    backbone = as_transformer(load_backbone(str(directory)))
    parameters = METHODS.build(method).insert(backbone, Initialiser(0, _CPU))
    for index, parameter in enumerate(parameters.values()):
        parameter.data += scale * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    return backbone.eval(), parameters


def _bottleneck(parameters: dict[str, nn.Parameter], key: str, x: torch.Tensor) -> torch.Tensor:
    """up relu(down x), from the exchanged tensors alone."""
    hidden = (x @ parameters[f"{key}.down.weight"].T + parameters[f"{key}.down.bias"]).relu()
    return hidden @ parameters[f"{key}.up.weight"].T + parameters[f"{key}.up.bias"]


@torch.no_grad()
def _by_hand(directory: Path, name: str, parameters: dict[str, nn.Parameter]) -> torch.Tensor:
    """The feature, with each block's two sub-layers written out."""
    backbone = as_transformer(load_backbone(str(directory)))
    tokens = backbone.embed(_pixels())
    for index, block in enumerate(backbone.blocks):
        x = block.attention(tokens)  # type: ignore[operator]
        mlp = block.ffn.ffn(block.ffn.norm(x))  # type: ignore[operator, union-attr]
        key = f"blocks.{index}.ffn.{name}"
        if name == "pfeiffer":
            tokens = x + mlp + _bottleneck(parameters, f"blocks.{index}.ffn_out.pfeiffer", mlp)
        elif name == "adaptformer":
            normed = nn.functional.layer_norm(
                x, x.shape[-1:], parameters[f"{key}.norm.weight"], parameters[f"{key}.norm.bias"]
            )
            tokens = x + mlp + 0.5 * _bottleneck(parameters, key, normed)
        elif name == "end":
            tokens = x + mlp + _bottleneck(parameters, key.replace("end", "kpl_adapter"), x + mlp)
        else:
            tokens = x + mlp + _bottleneck(parameters, key.replace("parallel", "kpl_adapter"), x)
    feature: torch.Tensor = backbone.readout(tokens)
    return feature


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("pfeiffer", "pfeiffer(bottleneck=5)"),
        ("adaptformer", "adaptformer(bottleneck=5, scale=0.5, layernorm=true)"),
        ("end", "kpl-adapter"),
        ("parallel", "kpl-adapter(placement='parallel', init='zero')"),
    ],
)
def test_equals_the_sublayers_written_out(tiny_backbone: Path, name: str, method: str) -> None:
    adapted, parameters = _insert(tiny_backbone, method)
    with torch.no_grad():
        torch.testing.assert_close(adapted(_pixels()), _by_hand(tiny_backbone, name, parameters), rtol=1e-5, atol=1e-5)


def test_houlsby_sits_on_both_sublayers(tiny_backbone: Path) -> None:
    parameters = _insert(tiny_backbone, "houlsby(bottleneck=5)")[1]
    assert {key.split(".")[2] for key in parameters} == {"o", "ffn_out"}
    assert parameters["blocks.1.o.houlsby.down.weight"].shape == (5, 16)


@pytest.mark.parametrize("name", ["houlsby", "pfeiffer", "adaptformer", "kpl-adapter"])
def test_zero_starts_frozen_and_still_learns(tiny_backbone: Path, name: str) -> None:
    """Were ``down`` zero as well, no step would ever move the weight of either."""
    backbone, parameters = _insert(tiny_backbone, f"{name}(init='zero', dropout=0.0)", scale=0)
    with torch.no_grad():
        assert torch.equal(backbone(_pixels()), load_backbone(str(tiny_backbone))(_pixels()))
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    backbone(_pixels()).square().sum().backward()
    for key, parameter in parameters.items():
        assert parameter.grad is not None
        assert bool(parameter.grad.abs().max() > 0) == (".up." in key), key


@pytest.mark.parametrize("name", ["houlsby", "pfeiffer", "adaptformer", "kpl-adapter"])
def test_normal_says_that_it_does_not_start_frozen(tiny_backbone: Path, name: str) -> None:
    backbone, parameters = _insert(tiny_backbone, f"{name}(init='normal')", scale=0)
    assert not METHODS.build(f"{name}(init='normal')").starts_frozen
    assert METHODS.build(f"{name}(init='zero')").starts_frozen
    assert all(parameters[key].abs().max() > 0 for key in parameters if key.endswith(("down.weight", "up.weight")))
    with torch.no_grad():
        assert not torch.equal(backbone(_pixels()), load_backbone(str(tiny_backbone))(_pixels()))


def test_dropout_only_while_training(tiny_backbone: Path) -> None:
    backbone, _ = _insert(tiny_backbone, "kpl-adapter(dropout=0.5)")
    backbone.train()
    assert not torch.equal(backbone(_pixels()), backbone(_pixels()))
    backbone.eval()
    assert torch.equal(backbone(_pixels()), backbone(_pixels()))


def test_nothing_left_of_the_bottleneck(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigError, match="the backbone is 16 wide"):
        _insert(tiny_backbone, "kpl-adapter(factor=17)")
