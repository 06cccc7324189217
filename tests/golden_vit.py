"""The reference values of VPT: their backbone, whose parameters have the names of another project, as one of ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from fedmedpeft.backbones import BackboneRecord, Preprocessing, Transformer, ViTArchitecture
from fedmedpeft.backbones.vit import ViT

_OUTER = {
    "embeddings.cls_token": "embeddings.cls_token",
    "embeddings.position_embeddings": "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection": "embeddings.patch_embeddings",
    "layernorm": "encoder.encoder_norm",
}
_IN_BLOCK = {
    "layernorm_before": "attention_norm",
    "attention.q_proj": "attn.query",
    "attention.k_proj": "attn.key",
    "attention.v_proj": "attn.value",
    "attention.o_proj": "attn.out",
    "layernorm_after": "ffn_norm",
    "mlp.fc1": "ffn.fc1",
    "mlp.fc2": "ffn.fc2",
}


@dataclass(frozen=True)
class GoldenViT:
    """One set of reference values: the published system's weights, inputs and outputs, all by their names there."""

    backbone: Transformer
    weights: dict[str, torch.Tensor]
    values: dict[str, torch.Tensor]

    @classmethod
    def read(cls, directory: Path) -> GoldenViT:
        weights = load_file(directory / "weights.safetensors")
        config = json.loads((directory / "meta.json").read_text())["config"]
        architecture = ViTArchitecture(
            hidden_size=config["w"],
            depth=config["layers"],
            heads=config["h"],
            ffn_size=config["mlp"],
            patch_size=config["patch"],
            image_size=config["image"],
            layer_norm_eps=1e-6,
        )
        preprocessing = Preprocessing(image_size=config["image"], mean=(0.5,) * 3, std=(0.5,) * 3)
        family = ViT()
        model = family.new_model(architecture)
        model.load_state_dict({key: weights[_published(key)] for key in model.state_dict()})
        record = BackboneRecord(name=directory.name, architecture=architecture, preprocessing=preprocessing)
        backbone = family.assemble(model, record, "")
        assert isinstance(backbone, Transformer)
        return cls(backbone, weights, load_file(directory / "io.safetensors"))


def _published(key: str) -> str:
    """``layers.1.mlp.fc1.weight`` -> ``enc.transformer.encoder.layer.1.ffn.fc1.weight``."""
    if key in _OUTER:
        return f"enc.transformer.{_OUTER[key]}"
    module, _, parameter = key.rpartition(".")
    if not key.startswith("layers."):
        return f"enc.transformer.{_OUTER[module]}.{parameter}"
    _, index, role = module.split(".", 2)
    return f"enc.transformer.encoder.layer.{index}.{_IN_BLOCK[role]}.{parameter}"
