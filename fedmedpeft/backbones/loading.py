"""Find a backbone by name or directory, read it, and never load half of it silently."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import ViTConfig, ViTModel
from transformers.utils import cached_file

from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.fingerprint import fingerprint
from fedmedpeft.backbones.positions import resize_positions
from fedmedpeft.backbones.record import Architecture, BackboneRecord, Preprocessing
from fedmedpeft.backbones.timm_checkpoint import from_timm, is_timm, timm_architecture
from fedmedpeft.backbones.vit import architecture_of, vit_backbone, vit_config
from fedmedpeft.components import ConfigError, explain

EMBEDDED = "embedded"
"""The name of the small ViT that ships with the package (see docs/embedded-backbone.md)."""

# A checkpoint may carry these beside the backbone; the task brings its own head.
_HEADS = ("classifier.", "pooler.")
_RESAMPLING = {2: "bilinear", 3: "bicubic"}


class _Files(NamedTuple):
    """Where a checkpoint lies. ``weights`` is None where only the configuration was asked for."""

    config: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: Path | None


def load_record(name: str, *, revision: str = "", image_size: int = 0) -> BackboneRecord:
    """Architecture and preprocessing of a backbone; its weights are read only where the layout is timm's.

    Args:
        name: ``embedded``, a local directory, or a Hugging Face repository.
        revision: commit of the repository; empty for its default branch.
        image_size: pixels a side; 0 keeps the checkpoint's own.

    Raises:
        ConfigError: nothing there, not a ViT, or an image size that is not a multiple of the patch.
    """
    files = _locate(name, revision, weights=False)
    if "model_type" in files.config:
        architecture = _hf_architecture(name, files.config)
    else:
        located = _locate(name, revision, weights=True)
        architecture = timm_architecture(_read_weights(name, located.weights), files.config)
    return _record(name, architecture, files, image_size)


def load_backbone(name: str, *, revision: str = "", image_size: int = 0, device: str = "cpu") -> Backbone:
    """Load a frozen backbone in float32 with its fingerprint. Arguments and errors as in :func:`load_record`.

    Raises:
        ConfigError: also where a tensor is missing, unknown, of another shape or not finite.
    """
    files = _locate(name, revision, weights=True)
    tensors = _read_weights(name, files.weights)
    if is_timm(tensors):
        architecture = timm_architecture(tensors, files.config)
        tensors = from_timm(tensors)
        model = ViTModel(vit_config(architecture), add_pooling_layer=False)
        problems = _problems(*model.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False))
    else:
        architecture = _hf_architecture(name, files.config)
        assert files.weights is not None
        # from_pretrained also understands the key names that earlier versions of transformers wrote.
        model, info = ViTModel.from_pretrained(
            str(files.weights.parent),
            add_pooling_layer=False,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
        problems = _problems(info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    if problems:
        raise ConfigError(f"Backbone '{name}' does not fit its architecture: {problems}. Check that it is a plain ViT.")
    _refuse_non_finite(name, model)
    record = _record(name, architecture, files, image_size)
    mark = fingerprint(record.architecture, model.state_dict())
    return vit_backbone(_at_size(model, record), record, mark).to(device)


def _record(name: str, architecture: Architecture, files: _Files, image_size: int) -> BackboneRecord:
    try:
        preprocessing = _preprocessing(files, architecture.image_size)
        record = BackboneRecord(name=name, architecture=architecture, preprocessing=preprocessing)
        return record.at_image_size(image_size) if image_size else record
    except ValidationError as error:
        raise ConfigError(f"Backbone '{name}': {explain(error)}.") from None


def _locate(name: str, revision: str, *, weights: bool) -> _Files:
    directory = Path(str(resources.files("fedmedpeft.backbones") / EMBEDDED)) if name == EMBEDDED else Path(name)
    if directory.is_dir():
        if revision:
            raise ConfigError(f"backbone-revision='{revision}' applies to Hugging Face names; '{name}' is local.")
        return _local_files(name, directory)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ConfigError(
            f"backbone='{name}' is neither '{EMBEDDED}', nor a directory on this machine, nor a Hugging Face name "
            "(organisation/model). Give an absolute path to the directory that holds config.json."
        )
    return _hub_files(name, revision, weights=weights)


def _local_files(name: str, directory: Path) -> _Files:
    config = _read_json(directory / "config.json")
    if config is None:
        raise ConfigError(f"backbone='{name}': no config.json in it. Save the model with save_pretrained() there.")
    found = sorted(directory.glob("*.safetensors"))
    if len(found) != 1:
        raise ConfigError(f"backbone='{name}': {len(found)} *.safetensors files in it, expected exactly one.")
    preprocessing = _read_json(directory / "preprocessing.json") or _read_json(directory / "preprocessor_config.json")
    return _Files(config, preprocessing or {}, found[0])


def _hub_files(name: str, revision: str, *, weights: bool) -> _Files:
    def fetch(filename: str, *, required: bool) -> Path | None:
        path = cached_file(name, filename, revision=revision or None, _raise_exceptions_for_missing_entries=required)
        return Path(path) if path else None

    try:
        config = fetch("config.json", required=True)
        preprocessing = fetch("preprocessor_config.json", required=False)
        tensors = fetch("model.safetensors", required=True) if weights else None
    except OSError as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError(
            f"backbone='{name}'{f' at {revision}' if revision else ''} could not be fetched: {first_line} "
            "Offline, download it once and give its directory, or use backbone='embedded'."
        ) from None
    assert config is not None
    return _Files(_read_json(config) or {}, (preprocessing and _read_json(preprocessing)) or {}, tensors)


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path.name}' of the backbone is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"'{path.name}' of the backbone holds a {type(content).__name__}, expected an object.")
    return content


def _read_weights(name: str, path: Path | None) -> dict[str, torch.Tensor]:
    assert path is not None
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"backbone='{name}': '{path.name}' cannot be read ({error}). Fetch it again.") from None


def _hf_architecture(name: str, config: dict[str, Any]) -> Architecture:
    if config.get("model_type") != "vit":
        raise ConfigError(
            f"backbone='{name}' has model_type={config.get('model_type')!r}; expected 'vit' or a timm ViT checkpoint."
        )
    return architecture_of(ViTConfig(**config))


def _preprocessing(files: _Files, image_size: int) -> Preprocessing:
    """From the backbone's own record; ViT's published mean = std = 0.5 where it says nothing."""
    said = {**files.config, **files.config.get("pretrained_cfg", {}), **files.preprocessing}
    interpolation = said.get("interpolation") or _RESAMPLING.get(said.get("resample", 2), "bilinear")
    mean, std = (said.get(ours) or said.get(theirs) or [0.5] * 3 for ours, theirs in (("mean", "image_mean"), ("std", "image_std")))
    return Preprocessing(image_size=image_size, mean=tuple(mean), std=tuple(std), interpolation=interpolation)


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
