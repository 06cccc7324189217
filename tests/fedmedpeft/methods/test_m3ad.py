"""M3AD's fusion adapters against attention written out; its general adapters are Houlsby's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fedmedpeft.backbones import BackboneRecord, Preprocessing, load_backbone, skeleton
from fedmedpeft.backbones.architecture import EncoderDecoderArchitecture, TextArchitecture, ViTArchitecture
from fedmedpeft.backbones.meter import Meter
from fedmedpeft.components import ConfigError
from fedmedpeft.methods import METHODS, Initialiser

_METHOD = "m3ad(bottleneck=8, heads=2)"


def _adapted(directory: str, method: str = _METHOD) -> tuple[Meter, dict[str, nn.Parameter]]:
    """The backbone and the adapters' parameters, moved to random values."""
    backbone = load_backbone(directory)
    assert isinstance(backbone, Meter)
    parameters = METHODS.build(method).insert(backbone, Initialiser(0, torch.device("cpu")))
    for index, parameter in enumerate(parameters.values()):
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    return backbone.eval(), parameters


def _linear(parameters: dict[str, nn.Parameter], key: str, x: torch.Tensor) -> torch.Tensor:
    return x @ parameters[f"{key}.weight"].T + parameters[f"{key}.bias"]


def _by_hand(
    parameters: dict[str, nn.Parameter], key: str, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """x + up(MHA(down x, down' y)) for two heads, each in a loop of its own."""
    asks, told = _linear(parameters, f"{key}.down", x), _linear(parameters, f"{key}.down_context", y)
    q, k, v = (_linear(parameters, f"{key}.attention.{name}", z) for name, z in (("q", asks), ("k", told), ("v", told)))
    heads = []
    for one in (slice(0, 4), slice(4, 8)):
        scores = q[..., one] @ k[..., one].transpose(1, 2) / 2.0
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], float("-inf"))
        heads.append(scores.softmax(-1) @ v[..., one])
    attended = _linear(parameters, f"{key}.attention.o", torch.cat(heads, dim=-1))
    return x + _linear(parameters, f"{key}.up", attended)


@torch.no_grad()
def test_a_fusion_adapter_reads_the_other_modality_without_its_padding(tiny_meter: str) -> None:
    backbone, parameters = _adapted(tiny_meter)
    generator = torch.Generator().manual_seed(1)
    words, image = torch.randn(2, 5, 32, generator=generator), torch.randn(2, 17, 32, generator=generator)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    layer = backbone.fusion.layers[1]
    for modality, x, y, seen in (("text", words, image, None), ("image", image, words, mask)):
        cross = getattr(layer, modality).cross
        found = cross(x, y, seen)
        expected = _by_hand(parameters, f"fusion.1.{modality}.cross.m3ad", cross.base(x, y, seen), y, seen)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("cross", "general"), [("true", 2 * 2 + 2 * 2 + 4 * 3), ("false", 2 * 2 + 2 * 2 + 4 * 2)])
def test_general_adapters_are_houlsbys(cross: str, general: int, tiny_meter: str) -> None:
    """After attention and FFN in two blocks of each tower and four of the co-attention, which have one more each."""
    parameters = _adapted(tiny_meter, f"m3ad(cross={cross})")[1]
    houlsby = _adapted(tiny_meter, "houlsby")[1]
    ups = {key for key in parameters if key.endswith(".m3ad.up.weight") and ".cross.m3ad" not in key}
    assert len(ups) == general
    assert {key.replace("m3ad", "houlsby") for key in ups} <= set(houlsby)


def test_it_also_reads_a_context_of_another_width() -> None:
    """In an encoder-decoder the encoder reads the image tower's tokens, the decoder the encoder's."""
    words: dict[str, Any] = {"model": "bert", "hidden_size": 32, "depth": 1, "heads": 2, "ffn_size": 64}
    text = TextArchitecture(**words, positions=40, vocabulary=60, types=0, padding=0, layer_norm_eps=1e-12)
    vision = ViTArchitecture(
        hidden_size=36, depth=1, heads=3, ffn_size=72, patch_size=8, image_size=32, layer_norm_eps=1e-6
    )
    record = BackboneRecord(
        name="tiny",
        architecture=EncoderDecoderArchitecture(vision=vision, text=text, decoder=text, text_length=12),
        preprocessing=Preprocessing(image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3),
    )
    parameters = METHODS.build(_METHOD).insert(skeleton(record), Initialiser(0, torch.device("meta")))
    widths = {key.split(".")[0]: p.shape[1] for key, p in parameters.items() if key.endswith("down_context.weight")}
    assert widths == {"text": 36, "decoder": 32}


def test_heads_must_divide_the_bottleneck() -> None:
    with pytest.raises(ConfigError, match="bottleneck=10 must be a multiple of heads=4"):
        METHODS.build("m3ad(bottleneck=10)")
