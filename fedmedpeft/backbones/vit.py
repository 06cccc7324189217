"""Vision Transformers: Hugging Face's ViT modules under this project's roles."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from transformers import ViTConfig, ViTModel

from fedmedpeft.backbones.backbone import Backbone, Place, Role
from fedmedpeft.backbones.record import Architecture, BackboneRecord

# transformers 5.23 names; `Backbone.set_places` refuses a network in which one of them is missing.
_IN_BLOCK: dict[Role, str] = {
    "norm1": "layernorm_before",
    "q": "attention.q_proj",
    "k": "attention.k_proj",
    "v": "attention.v_proj",
    "o": "attention.o_proj",
    "norm2": "layernorm_after",
    "ffn_in": "mlp.fc1",
    "ffn_out": "mlp.fc2",
}


def architecture_of(config: ViTConfig) -> Architecture:
    """Read the sizes out of a Hugging Face configuration."""
    return Architecture(
        hidden_size=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        ffn_size=config.intermediate_size,
        patch_size=config.patch_size,
        image_size=config.image_size,
        layer_norm_eps=config.layer_norm_eps,
        activation=config.hidden_act,
        qkv_bias=config.qkv_bias,
    )


def vit_config(architecture: Architecture) -> ViTConfig:
    """The Hugging Face configuration with these sizes; attention runs in torch's fused kernel."""
    config = ViTConfig(
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.depth,
        num_attention_heads=architecture.heads,
        intermediate_size=architecture.ffn_size,
        patch_size=architecture.patch_size,
        image_size=architecture.image_size,
        layer_norm_eps=architecture.layer_norm_eps,
        hidden_act=architecture.activation,
        qkv_bias=architecture.qkv_bias,
    )
    config._attn_implementation = "sdpa"
    return config


def vit_backbone(model: ViTModel, record: BackboneRecord, fingerprint: str = "") -> Backbone:
    """Wrap a ViTModel (without pooler). The model's modules are taken over, not copied."""
    backbone = Backbone(
        record, embed=model.embeddings, blocks=model.layers, norm=model.layernorm, fingerprint=fingerprint
    )
    backbone.set_places(_places(backbone))
    return backbone


def skeleton(record: BackboneRecord) -> Backbone:
    """The network without weights, on torch's meta device: enough to count and to derive a contract."""
    with torch.device("meta"):
        return vit_backbone(ViTModel(vit_config(record.architecture), add_pooling_layer=False), record)


def _places(backbone: Backbone) -> Iterator[Place]:
    yield Place("embed", "embed", backbone, "embed", backbone.embed)
    for index, block in enumerate(backbone.blocks):
        yield Place("block", f"blocks.{index}", backbone.blocks, str(index), block)
        for role, path in _IN_BLOCK.items():
            owner_path, _, attribute = path.rpartition(".")
            owner: nn.Module = block.get_submodule(owner_path)
            yield Place(role, f"blocks.{index}.{role}", owner, attribute, getattr(owner, attribute))
    yield Place("norm", "norm", backbone, "norm", backbone.norm)
