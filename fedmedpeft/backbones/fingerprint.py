"""The backbone's fingerprint: two sites with the same one compute the same features."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from fedmedpeft.backbones.architecture import Architecture
from fedmedpeft.backbones.record import Preprocessing


def fingerprint(
    architecture: Architecture,
    preprocessing: Preprocessing,
    tensors: Mapping[str, torch.Tensor],
    vocabulary: str = "",
) -> str:
    """SHA-256 over architecture, preprocessing, a tokenizer's hash, and every tensor as float32, by sorted name.

    A float16 and a float32 file of the same values agree, since widening is exact. Position embeddings count as
    stored in the checkpoint, before any interpolation, so the result does not depend on the interpolating machine.
    """
    digest = hashlib.sha256(f"{architecture.model_dump_json()}{preprocessing.model_dump_json()}{vocabulary}".encode())
    for name in sorted(tensors):
        array = tensors[name].detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
