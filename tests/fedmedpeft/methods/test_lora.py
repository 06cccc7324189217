from __future__ import annotations

from pathlib import Path

import torch

from fedmedpeft.backbones import load_backbone
from fedmedpeft.methods import METHODS, Initialiser


def test_equals_the_merged_weight(tiny_backbone: Path) -> None:
    """x (W + alpha/r B A)^T, computed by merging into the weight of an untouched copy."""
    adapted, merged = load_backbone(str(tiny_backbone)), load_backbone(str(tiny_backbone))
    parameters = METHODS.build("lora(rank=3, alpha=6, targets='q,ffn_in')").insert(
        adapted, Initialiser(0, torch.device("cpu"))
    )
    for index, parameter in enumerate(parameters.values()):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    for place in merged.places("q", "ffn_in"):
        update = parameters[f"{place.key}.lora_B"] @ parameters[f"{place.key}.lora_A"]
        place.original.weight.data += 6 / 3 * update  # type: ignore[union-attr, operator]
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        torch.testing.assert_close(adapted(pixels), merged(pixels), atol=1e-5, rtol=1e-5)


def test_dropout_only_while_training(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone))
    for parameter in METHODS.build("lora(dropout=0.5)").insert(backbone, Initialiser(0, torch.device("cpu"))).values():
        parameter.data.fill_(0.3)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    backbone.train()
    assert not torch.equal(backbone(pixels), backbone(pixels))
    backbone.eval()
    assert torch.equal(backbone(pixels), backbone(pixels))
