from __future__ import annotations

import hashlib

import pytest
import torch

from fedmedpeft.backbones import load_record
from fedmedpeft.backbones.fusion_weights import draw_fusion
from fedmedpeft.backbones.meter import Fusion


def _drawn(name: str, seed: int) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        fusion = Fusion(load_record(name).architecture)  # type: ignore[arg-type]
    draw_fusion(fusion, seed)
    return fusion.state_dict()


@pytest.fixture
def drawn(tiny_meter: str) -> dict[str, torch.Tensor]:
    return _drawn(tiny_meter, 0)


def test_values_are_meters(drawn: dict[str, torch.Tensor]) -> None:
    for name, tensor in drawn.items():
        if name.endswith("bias"):
            assert not tensor.any()
        elif ".norm." in name:
            assert (tensor == 1).all()
        else:
            assert abs(tensor.mean().item()) < 4 * 0.02 / tensor.numel() ** 0.5
            assert tensor.std().item() == pytest.approx(0.02, rel=0.25)


def test_every_parameter_is_drawn_for_itself(tiny_meter: str, drawn: dict[str, torch.Tensor]) -> None:
    matrices = [tensor for name, tensor in drawn.items() if tensor.dim() == 2 and ".norm." not in name]
    assert len({tensor.flatten()[0].item() for tensor in matrices}) == len(matrices)
    other = _drawn(tiny_meter, 1)
    assert not any(torch.equal(tensor, other[name]) for name, tensor in drawn.items() if tensor.dim() == 2)


def test_the_bits_are_the_same_everywhere(drawn: dict[str, torch.Tensor]) -> None:
    """Sites draw them apart from each other: another result here means that their fingerprints would differ."""
    digest = hashlib.sha256(b"".join(drawn[name].numpy().tobytes() for name in sorted(drawn)))
    assert digest.hexdigest()[:16] == "a8b46620eef94048"
