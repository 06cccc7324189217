"""The artefact that ships: weights in half precision, the architecture, and how to prepare an image for it."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from transformers import ViTModel

from fedmedpeft.backbones import load_backbone
from pretraining.colouring import MEAN, STD


def write_artefact(backbone: ViTModel, weights: dict[str, Tensor], folder: Path) -> None:
    """Write ``model.safetensors`` (fp16), ``config.json``, ``preprocessing.json`` and ``fingerprint.json``, each whole.

    Args:
        backbone: gives the architecture; it is left as it is.
        weights: its state dict by name, e.g. an average over steps.
        folder: made where it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = backbone.config.image_size
    preprocessing = {"image_size": size, "mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic"}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        # Through a copy, for save_pretrained names the tensors as from_pretrained wants them, and notes the dtype.
        copied = copy.deepcopy(backbone)
        copied.load_state_dict(weights)
        torch.nn.Module.to(copied, torch.float16)
        copied.save_pretrained(temporary)
        (Path(temporary) / "preprocessing.json").write_text(json.dumps(preprocessing, indent=2) + "\n")
        mark = load_backbone(temporary).fingerprint
        (Path(temporary) / "fingerprint.json").write_text(json.dumps({"sha256": mark}, indent=2) + "\n")
        for name in ("model.safetensors", "config.json", "preprocessing.json", "fingerprint.json"):
            (Path(temporary) / name).chmod(0o644)  # safetensors leaves its file to the owner alone
            (Path(temporary) / name).replace(folder / name)


def read_artefact(folder: Path) -> ViTModel:
    """The backbone in float32 and in eval mode.

    Raises:
        OSError: a file is missing, or is not what :func:`write_artefact` wrote.
    """
    model: ViTModel = ViTModel.from_pretrained(
        folder, add_pooling_layer=False, dtype=torch.float32, local_files_only=True
    )
    model.requires_grad_(False)
    return model
