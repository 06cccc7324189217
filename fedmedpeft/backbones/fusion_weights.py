"""Fusion layers without a checkpoint: new weights, the same at every site."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn

from fedmedpeft.backbones.meter import Fusion

_STD = 0.02


def draw_fusion(fusion: Fusion, seed: int) -> None:
    """Give every parameter METER's initial values; see :func:`draw_weights`."""
    draw_weights(fusion, seed, "fusion")


def draw_weights(network: nn.Module, seed: int, name: str) -> None:
    """Give every parameter BERT's initial values: N(0, 0.02^2), biases 0, LayerNorms 1 and 0.

    Each is drawn from a generator of its own, on the CPU, by numpy, whose normal numbers do not depend on the width of
    a processor's vectors: sites that write the same seed have the same bits, and so the same fingerprint.

    Args:
        network: may be on the meta device; its parameters are replaced.
        seed: of all of them.
        name: of the network; others with the same seed have other values.
    """
    for path, module in network.named_modules():
        for parameter, old in module.named_parameters(recurse=False):
            if isinstance(module, nn.LayerNorm) and parameter == "weight":
                values = torch.ones(old.shape)
            elif parameter == "bias":
                values = torch.zeros(old.shape)
            else:
                values = _normal(f"{seed}/{name}.{path}.{parameter}", old.shape)
            setattr(module, parameter, nn.Parameter(values, requires_grad=False))


def _normal(key: str, shape: torch.Size) -> torch.Tensor:
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest(), "big"))
    return torch.from_numpy((generator.standard_normal(tuple(shape)) * _STD).astype(np.float32))
