"""Checkpoints in the key layout of timm's VisionTransformer, renamed to Hugging Face's ViTModel.

The one structural difference: timm keeps query, key and value in one fused projection, in this order along dim 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from fedmedpeft.backbones.architecture import ViTArchitecture
from fedmedpeft.components import ConfigError

_OUTSIDE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_INSIDE = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")


def is_timm(tensors: Mapping[str, torch.Tensor]) -> bool:
    return "blocks.0.attn.qkv.weight" in tensors


def timm_architecture(tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> ViTArchitecture:
    """Sizes from the tensors' shapes; the number of heads, which no shape shows, from ``config`` or as d / 64."""
    hidden, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    depth = 1 + max(int(match[1]) for name in tensors if (match := _BLOCK.fullmatch(name)))
    tokens = tensors["pos_embed"].shape[1] - 1
    side = round(tokens**0.5)
    if side * side != tokens:
        raise ConfigError(f"pos_embed has {tokens} patch positions, which is not a square grid.")
    heads = config.get("num_attention_heads", config.get("num_heads", hidden // 64))
    return ViTArchitecture(
        hidden_size=hidden,
        depth=depth,
        heads=heads,
        ffn_size=tensors["blocks.0.mlp.fc1.weight"].shape[0],
        patch_size=patch,
        image_size=side * patch,
        layer_norm_eps=config.get("layer_norm_eps", 1e-6),
        qkv_bias="blocks.0.attn.qkv.bias" in tensors,
    )


def from_timm(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename to ViTModel's keys (transformers 5.23). The classifier is dropped: a task brings its own head.

    Raises:
        ConfigError: the checkpoint has tensors of a variant that ViT lacks (layer scale, registers, ...).
    """
    renamed: dict[str, torch.Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        match = _BLOCK.fullmatch(name)
        if name in _OUTSIDE:
            renamed[_OUTSIDE[name]] = tensor
        elif match and match[2] == "attn.qkv":
            for part, piece in zip("qkv", tensor.chunk(3, dim=0), strict=True):
                renamed[f"layers.{match[1]}.attention.{part}_proj.{match[3]}"] = piece
        elif match and match[2] in _INSIDE:
            renamed[f"layers.{match[1]}.{_INSIDE[match[2]]}.{match[3]}"] = tensor
        elif not name.startswith("head."):
            unknown.append(name)
    if unknown:
        raise ConfigError(
            f"The timm checkpoint has tensors that a plain ViT lacks ({', '.join(sorted(unknown)[:3])}, ...). "
            "Use a plain vit_* model, without registers, layer scale or distillation token."
        )
    return renamed
