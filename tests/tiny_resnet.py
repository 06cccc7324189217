"""ResNets of a few layers for 32 px images, as Hugging Face saves them. Random weights: for tests only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import ResNetConfig, ResNetModel

from fedmedpeft.backbones import BackboneRecord, Preprocessing
from fedmedpeft.backbones.architecture import ResNetArchitecture

RESNET_50: dict[str, Any] = {
    "image_size": 224,
    "embedding_size": 64,
    "hidden_sizes": (256, 512, 1024, 2048),
    "depths": (3, 4, 6, 3),
}


def save_resnet(directory: Path, **sizes: Any) -> Path:
    """Two basic layers unless ``sizes`` say otherwise; statistics, scales and shifts as after some training."""
    torch.manual_seed(3)
    basic = {"hidden_sizes": (8, 16), "depths": (1, 1), "layer_type": "basic"}
    model = ResNetModel(ResNetConfig(**{"image_size": 32, "embedding_size": 8, **basic, **sizes}))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor, std=0.3)  # type: ignore[arg-type]
            for tensor in (module.running_var, module.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
    model.save_pretrained(directory)
    return directory


def resnet_record(**sizes: Any) -> BackboneRecord:
    """ResNet-50 unless ``sizes`` say otherwise."""
    architecture = ResNetArchitecture.model_validate({**RESNET_50, **sizes})
    preprocessing = Preprocessing(image_size=architecture.image_size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return BackboneRecord(name="resnet", architecture=architecture, preprocessing=preprocessing)
