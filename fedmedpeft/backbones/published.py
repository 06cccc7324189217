"""One published image backbone: Hugging Face's layout or timm's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from pydantic import ValidationError
from transformers import PreTrainedModel
from transformers.utils import logging

from fedmedpeft.backbones.architecture import Architecture, ClipArchitecture, ViTArchitecture
from fedmedpeft.backbones.checkpoint_files import EMBEDDED, CheckpointFiles, embedded_directory, locate, read_json
from fedmedpeft.backbones.families import PUBLISHED, family_of_model_type
from fedmedpeft.backbones.family import Loaded, PublishedFamily
from fedmedpeft.backbones.fit import fit, problems, refuse_non_finite
from fedmedpeft.backbones.record import BackboneRecord, Preprocessing
from fedmedpeft.backbones.tensor_files import read_tensors
from fedmedpeft.backbones.timm_checkpoint import from_timm, is_timm, timm_architecture
from fedmedpeft.components import ConfigError, explain

logging.disable_progress_bar()

_OTHER_PAIRS = ("vision-text-dual-encoder", "siglip", "align", "altclip", "chinese_clip")
_RESAMPLING = {2: "bilinear", 3: "bicubic"}


def published_record(name: str, revision: str) -> BackboneRecord:
    """Architecture and preprocessing; weights are read only where the layout is timm's. Raises ConfigError."""
    files = locate(name, revision, weights=False)
    if files.is_hugging_face:
        return _record(name, _architecture(name, files.config), files)
    weights = locate(name, revision, weights=True).weights
    return _record(name, timm_architecture(_read_weights(name, weights), files.config), files)


def read_published(name: str, revision: str) -> Loaded:
    """The same with its weights, all of them checked. Raises ConfigError."""
    files = locate(name, revision, weights=True)
    tensors = _read_weights(name, files.weights)
    architecture: Architecture
    if is_timm(tensors):
        architecture, model, wrong = _from_timm(tensors, files)
    else:
        architecture, model, wrong = _from_hugging_face(name, files)
    if wrong:
        raise ConfigError(f"Backbone '{name}' does not fit its architecture: {wrong}. Check what was saved there.")
    refuse_non_finite(name, model.state_dict())
    assert files.weights is not None
    tokenizer = PUBLISHED[architecture.family].tokenizer(files.weights.parent, architecture)
    loaded = Loaded(_record(name, architecture, files), model, tokenizer)
    if name == EMBEDDED:
        _check_release(loaded.fingerprint(loaded.record))
    return loaded


def sizes_with_tokens(tower: BackboneRecord, backbone: str) -> ViTArchitecture | ClipArchitecture:
    """Sizes of an image tower whose tokens another network of ``backbone`` reads. Raises ConfigError without tokens."""
    sizes = tower.architecture
    if not isinstance(sizes, ViTArchitecture | ClipArchitecture):
        raise ConfigError(
            f"backbone '{backbone}': vision='{tower.name}' is a {sizes.family}, which has no tokens to attend to. "
            "Choose a ViT or a CLIP."
        )
    return sizes


def _record(name: str, architecture: Architecture, files: CheckpointFiles) -> BackboneRecord:
    try:
        preprocessing = _preprocessing(files, architecture)
        return BackboneRecord(name=name, architecture=architecture, preprocessing=preprocessing)
    except ValidationError as error:
        raise ConfigError(f"Backbone '{name}': {explain(error)}.") from None


def _read_weights(name: str, path: Path | None) -> dict[str, torch.Tensor]:
    assert path is not None
    return read_tensors(path, f"backbone='{name}'")


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
    return architecture, model, fit(model, from_timm(tensors))


def _from_hugging_face(name: str, files: CheckpointFiles) -> tuple[Architecture, PreTrainedModel, str]:
    """Architecture, model, and what is wrong with it."""
    architecture = _architecture(name, files.config)
    family = PUBLISHED[architecture.family]
    assert files.weights is not None
    model, info = family.read(files.weights.parent, architecture)
    wrong = problems(info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"], family.ignored)
    return architecture, model, wrong


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
