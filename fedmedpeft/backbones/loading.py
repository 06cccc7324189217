"""Read a backbone and check it: half a checkpoint is never loaded silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import ViTConfig, ViTModel
from transformers.utils import logging

from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.checkpoint_files import EMBEDDED, CheckpointFiles, embedded_directory, locate, read_json
from fedmedpeft.backbones.fingerprint import fingerprint
from fedmedpeft.backbones.positions import resize_positions
from fedmedpeft.backbones.record import Architecture, BackboneRecord, Preprocessing
from fedmedpeft.backbones.timm_checkpoint import from_timm, is_timm, timm_architecture
from fedmedpeft.backbones.vit import architecture_of, vit_backbone, vit_config
from fedmedpeft.components import ConfigError, explain

logging.disable_progress_bar()

# A checkpoint may carry these beside the backbone; the task brings its own head.
_HEADS = ("classifier.", "pooler.")
_RESAMPLING = {2: "bilinear", 3: "bicubic"}


def load_record(name: str, *, revision: str = "", image_size: int = 0) -> BackboneRecord:
    """Architecture and preprocessing of a backbone; its weights are read only where the layout is timm's.

    Args:
        name: ``embedded``, a local directory, or a Hugging Face repository.
        revision: commit of the repository; empty for its default branch.
        image_size: pixels a side; 0 keeps the checkpoint's own.

    Raises:
        ConfigError: nothing there, not a ViT, or an image size that is not a multiple of the patch.
    """
    files = locate(name, revision, weights=False)
    if files.is_hugging_face:
        architecture = _hf_architecture(name, files.config)
    else:
        weights = locate(name, revision, weights=True).weights
        architecture = timm_architecture(_read_weights(name, weights), files.config)
    return _record(name, architecture, files, image_size)


def load_backbone(name: str, *, revision: str = "", image_size: int = 0, device: str = "cpu") -> Backbone:
    """Load a frozen backbone in float32 with its fingerprint. Arguments and errors as in :func:`load_record`.

    Raises:
        ConfigError: also where a tensor is missing, unknown, of another shape or not finite.
    """
    files = locate(name, revision, weights=True)
    tensors = _read_weights(name, files.weights)
    model, problems = _from_timm(tensors, files) if is_timm(tensors) else _from_hugging_face(name, files)
    if problems:
        raise ConfigError(f"Backbone '{name}' does not fit its architecture: {problems}. Check that it is a plain ViT.")
    _refuse_non_finite(name, model)
    architecture = architecture_of(model.config)
    if name == EMBEDDED:
        _check_release(_fingerprint(_record(name, architecture, files, 0), model))
    record = _record(name, architecture, files, image_size)
    mark = _fingerprint(record, model)
    return vit_backbone(_at_size(model, record), record, mark).to(device)


def _record(name: str, architecture: Architecture, files: CheckpointFiles, image_size: int) -> BackboneRecord:
    try:
        preprocessing = _preprocessing(files, architecture.image_size)
        record = BackboneRecord(name=name, architecture=architecture, preprocessing=preprocessing)
        return record.at_image_size(image_size) if image_size else record
    except ValidationError as error:
        raise ConfigError(f"Backbone '{name}': {explain(error)}.") from None


def _read_weights(name: str, path: Path | None) -> dict[str, torch.Tensor]:
    assert path is not None
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        # The error's own text may hold local paths, and this sentence may travel.
        raise ConfigError(f"backbone='{name}': '{path.name}' cannot be read. Fetch it again.") from error


def _hf_architecture(name: str, config: dict[str, Any]) -> Architecture:
    if config.get("model_type") != "vit":
        raise ConfigError(
            f"backbone='{name}' has model_type={config.get('model_type')!r}; expected 'vit' or a timm ViT checkpoint."
        )
    return architecture_of(ViTConfig(**config))


def _from_timm(tensors: dict[str, torch.Tensor], files: CheckpointFiles) -> tuple[ViTModel, str]:
    """The model, and what is wrong with it."""
    model = ViTModel(vit_config(timm_architecture(tensors, files.config)), add_pooling_layer=False)
    widened = {name: tensor.float() for name, tensor in from_timm(tensors).items()}
    return model, _problems(*model.load_state_dict(widened, strict=False))


def _from_hugging_face(name: str, files: CheckpointFiles) -> tuple[ViTModel, str]:
    """The model, and what is wrong with it; understands the key names of earlier versions of transformers too."""
    _hf_architecture(name, files.config)
    assert files.weights is not None
    loaded: Any = ViTModel.from_pretrained(
        str(files.weights.parent),
        add_pooling_layer=False,
        use_safetensors=True,
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        attn_implementation="sdpa",
    )
    model, info = loaded
    return model, _problems(info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])


def _problems(missing: Any, unexpected: Any, mismatched: Any = ()) -> str:
    findings = {
        "missing": sorted(missing),
        "unknown": sorted(name for name in unexpected if not name.startswith(_HEADS)),
        "of another shape": sorted(str(name) for name in mismatched),
    }
    return "; ".join(f"{len(names)} tensors {what} ({names[0]}, ...)" for what, names in findings.items() if names)


def _refuse_non_finite(name: str, model: ViTModel) -> None:
    for key, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"backbone='{name}': tensor '{key}' has values that are not finite. Fetch it again.")


def _fingerprint(record: BackboneRecord, model: ViTModel) -> str:
    return fingerprint(record.architecture, record.preprocessing, model.state_dict())


def _check_release(mark: str) -> None:
    """The embedded backbone must be the one that was released; a damaged installation is found here."""
    released = read_json(embedded_directory() / "fingerprint.json") or {}
    if mark != released.get("sha256"):
        raise ConfigError("The embedded backbone's weights are not those that were released. Install fedmedpeft again.")


def _preprocessing(files: CheckpointFiles, image_size: int) -> Preprocessing:
    """From the backbone's own record; ViT's published mean = std = 0.5 where it says nothing."""
    said = {**files.config, **files.config.get("pretrained_cfg", {}), **files.preprocessing}
    interpolation = said.get("interpolation") or _RESAMPLING.get(said.get("resample", 2), "bilinear")
    mean = said.get("mean") or said.get("image_mean") or [0.5] * 3
    std = said.get("std") or said.get("image_std") or [0.5] * 3
    return Preprocessing(image_size=image_size, mean=tuple(mean), std=tuple(std), interpolation=interpolation)


def _at_size(model: ViTModel, record: BackboneRecord) -> ViTModel:
    """The same weights in a network for ``record``'s image size."""
    architecture = record.architecture
    if model.config.image_size == architecture.image_size:
        return model
    tensors = dict(model.state_dict())
    key = "embeddings.position_embeddings"
    tensors[key] = resize_positions(tensors[key], architecture.image_size // architecture.patch_size)
    resized = ViTModel(vit_config(architecture), add_pooling_layer=False)
    resized.load_state_dict(tensors)
    return resized
