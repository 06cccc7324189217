from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import ViTModel

from fedmedpeft.backbones import load_backbone
from fedmedpeft.backbones.timm_checkpoint import from_timm, is_timm, timm_architecture
from fedmedpeft.components import ConfigError


def _as_timm(directory: Path) -> dict[str, torch.Tensor]:
    """The tiny backbone's tensors under timm's names, renamed here independently of the code under test."""
    state = ViTModel.from_pretrained(directory, add_pooling_layer=False).state_dict()
    timm = {
        "cls_token": state["embeddings.cls_token"],
        "pos_embed": state["embeddings.position_embeddings"],
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": state["layernorm.weight"],
        "norm.bias": state["layernorm.bias"],
        "head.weight": torch.zeros(5, 16),
    }
    for i in range(2):
        ours, theirs = f"layers.{i}", f"blocks.{i}"
        for kind in ("weight", "bias"):
            timm[f"{theirs}.attn.qkv.{kind}"] = torch.cat([state[f"{ours}.attention.{p}_proj.{kind}"] for p in "qkv"])
            timm[f"{theirs}.attn.proj.{kind}"] = state[f"{ours}.attention.o_proj.{kind}"]
            timm[f"{theirs}.norm1.{kind}"] = state[f"{ours}.layernorm_before.{kind}"]
            timm[f"{theirs}.norm2.{kind}"] = state[f"{ours}.layernorm_after.{kind}"]
            timm[f"{theirs}.mlp.fc1.{kind}"] = state[f"{ours}.mlp.fc1.{kind}"]
            timm[f"{theirs}.mlp.fc2.{kind}"] = state[f"{ours}.mlp.fc2.{kind}"]
    return timm


def test_renaming_gives_back_every_tensor(tiny_backbone: Path) -> None:
    timm = _as_timm(tiny_backbone)
    assert is_timm(timm)
    expected = ViTModel.from_pretrained(tiny_backbone, add_pooling_layer=False).state_dict()
    renamed = from_timm(timm)
    assert renamed.keys() == expected.keys()
    assert all(torch.equal(renamed[name], expected[name]) for name in expected)


def test_sizes_are_read_from_shapes(tiny_backbone: Path) -> None:
    architecture = timm_architecture(_as_timm(tiny_backbone), {"num_heads": 2})
    assert architecture == load_backbone(str(tiny_backbone)).record.architecture.model_copy(
        update={"layer_norm_eps": 1e-6}
    )


def test_variants_of_vit_are_refused(tiny_backbone: Path) -> None:
    timm = _as_timm(tiny_backbone) | {"blocks.0.ls1.gamma": torch.ones(16)}
    with pytest.raises(ConfigError, match="blocks.0.ls1.gamma"):
        from_timm(timm)
