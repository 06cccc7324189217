"""Read a backbone and check it: half a checkpoint is never loaded silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.utils import logging

from fedmedpeft.backbones.architecture import Architecture, ViTArchitecture
from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.checkpoint_files import EMBEDDED, CheckpointFiles, embedded_directory, locate, read_json
from fedmedpeft.backbones.families import PUBLISHED, family_of_model_type
from fedmedpeft.backbones.family import PublishedFamily
from fedmedpeft.backbones.fingerprint import fingerprint
from fedmedpeft.backbones.record import BackboneRecord, Preprocessing
from fedmedpeft.backbones.timm_checkpoint import from_timm, is_timm, timm_architecture
from fedmedpeft.backbones.tokenizer import Tokenizer
from fedmedpeft.components import ConfigError, explain

logging.disable_progress_bar()

_OTHER_PAIRS = ("vision-text-dual-encoder", "siglip", "align", "altclip", "chinese_clip")
_RESAMPLING = {2: "bilinear", 3: "bicubic"}


def load_record(name: str, *, revision: str = "", image_size: int = 0) -> BackboneRecord:
    """Architecture and preprocessing of a backbone; its weights are read only where the layout is timm's.

    Args:
        name: ``embedded``, a local directory, or a Hugging Face repository.
        revision: commit of the repository; empty for its default branch.
        image_size: pixels a side; 0 keeps the checkpoint's own.

    Raises:
        ConfigError: nothing there, a network of another kind, or an image size that is not a multiple of the patch.
    """
    files = locate(name, revision, weights=False)
    architecture: Architecture
    if files.is_hugging_face:
        architecture = _architecture(name, files.config)
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
    architecture: Architecture
    if is_timm(tensors):
        architecture, model, problems = _from_timm(tensors, files)
    else:
        architecture, model, problems = _from_hugging_face(name, files)
    if problems:
        raise ConfigError(f"Backbone '{name}' does not fit its architecture: {problems}. Check what was saved there.")
    _refuse_non_finite(name, model)
    family = PUBLISHED[architecture.family]
    assert files.weights is not None
    tokenizer = family.tokenizer(files.weights.parent, architecture)
    if name == EMBEDDED:
        _check_release(_fingerprint(_record(name, architecture, files, 0), model, tokenizer))
    record = _record(name, architecture, files, image_size)
    mark = _fingerprint(record, model, tokenizer)
    if record.architecture != architecture:
        model = family.resized(model, record.architecture)
    backbone = family.assemble(model, record, mark).to(device)
    backbone.tokenizer = tokenizer
    return backbone


def _record(name: str, architecture: Architecture, files: CheckpointFiles, image_size: int) -> BackboneRecord:
    try:
        preprocessing = _preprocessing(files, architecture)
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


def _family(name: str, config: dict[str, Any]) -> PublishedFamily[Any]:
    family = family_of_model_type(str(config.get("model_type")))
    if family is None:
        known = ", ".join(kind for family in PUBLISHED.values() for kind in family.model_types)
        pair = " Of pairs of an image and a text tower, only CLIP's own is read: not BiomedCLIP's ViT with a BERT."
        raise ConfigError(
            f"backbone='{name}' has model_type={config.get('model_type')!r}; expected one of {known}, or a timm ViT "
            f"checkpoint.{pair if config.get('model_type') in _OTHER_PAIRS else ''}"
        )
    return family


def _architecture(name: str, config: dict[str, Any]) -> Architecture:
    family = _family(name, config)
    try:
        architecture: Architecture = family.architecture(config)
    except ValidationError as error:
        raise ConfigError(f"backbone='{name}': config.json does not fit: {explain(error)}.") from None
    except (StrictDataclassError, TypeError, ValueError) as error:  # transformers reads it before this project does
        raise ConfigError(f"backbone='{name}': config.json does not fit: {' '.join(str(error).split())}") from None
    return architecture


def _from_timm(
    tensors: dict[str, torch.Tensor], files: CheckpointFiles
) -> tuple[ViTArchitecture, PreTrainedModel, str]:
    """Architecture, model, and what is wrong with it."""
    architecture = timm_architecture(tensors, files.config)
    model = PUBLISHED["vit"].new_model(architecture)
    widened = {name: tensor.float() for name, tensor in from_timm(tensors).items()}
    return architecture, model, _problems(*model.load_state_dict(widened, strict=False), ignored=())


def _from_hugging_face(name: str, files: CheckpointFiles) -> tuple[Architecture, PreTrainedModel, str]:
    """Architecture, model, and what is wrong with it."""
    architecture = _architecture(name, files.config)
    family = PUBLISHED[architecture.family]
    assert files.weights is not None
    model, info = family.read(files.weights.parent, architecture)
    problems = _problems(info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"], ignored=family.ignored)
    return architecture, model, problems


def _problems(missing: Any, unexpected: Any, mismatched: Any = (), *, ignored: tuple[str, ...]) -> str:
    findings = {
        "missing": sorted(missing),
        "unknown": sorted(name for name in unexpected if not name.startswith(ignored)),
        "of another shape": sorted(str(name) for name in mismatched),
    }
    return "; ".join(f"{len(names)} tensors {what} ({names[0]}, ...)" for what, names in findings.items() if names)


def _refuse_non_finite(name: str, model: PreTrainedModel) -> None:
    for key, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"backbone='{name}': tensor '{key}' has values that are not finite. Fetch it again.")


def _fingerprint(record: BackboneRecord, model: PreTrainedModel, tokenizer: Tokenizer | None) -> str:
    vocabulary = tokenizer.hash if tokenizer else ""
    return fingerprint(record.architecture, record.preprocessing, model.state_dict(), vocabulary)


def _check_release(mark: str) -> None:
    """The embedded backbone must be the one that was released; a damaged installation is found here."""
    released = read_json(embedded_directory() / "fingerprint.json") or {}
    if mark != released.get("sha256"):
        raise ConfigError("The embedded backbone's weights are not those that were released. Install fedmedpeft again.")


def _preprocessing(files: CheckpointFiles, architecture: Architecture) -> Preprocessing:
    """From the backbone's own record; what its family was published with where it says nothing."""
    usual = PUBLISHED[architecture.family]
    said = {**files.config, **files.config.get("pretrained_cfg", {}), **files.preprocessing}
    interpolation = said.get("interpolation") or _RESAMPLING.get(said.get("resample", 0), usual.interpolation)
    mean = said.get("mean") or said.get("image_mean") or usual.mean
    std = said.get("std") or said.get("image_std") or usual.std
    return Preprocessing.model_validate(
        {"image_size": architecture.image_size, "mean": mean, "std": std, "interpolation": interpolation}
    )
