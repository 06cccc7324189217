"""The result of a run as two files: ``fedmedpeft_adapter.safetensors`` and ``fedmedpeft_adapter.json``.

The tensors have their canonical names; the configuration says everything that is needed to put them back into the same
backbone, and enough to notice that a file was damaged or belongs to something else. Hugging Face's own files may lie
beside them (``hf_adapter.py``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedmedpeft import __version__
from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.backbones import BackboneRecord
from fedmedpeft.components import ComponentSpec, ConfigError, explain, parse_spec
from fedmedpeft.exchange.manifest import Manifest, Part, TensorSpec
from fedmedpeft.exchange.peft_state import PeftState

FORMAT: Final = "fedmedpeft-adapter"
FORMAT_VERSION: Final = 3
READABLE: Final = (2, 3)
"""Version 2 is the same without a task: all its adapters are classifiers."""
TENSORS_FILE, CONFIG_FILE = "fedmedpeft_adapter.safetensors", "fedmedpeft_adapter.json"
HF_CONFIG_FILE = "adapter_config.json"
"""The name in Hugging Face's format; version 1 of this one used it too."""


class AdapterTensor(BaseModel):
    """One line of the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    shape: tuple[int, ...]
    part: Part


class AdapterConfig(BaseModel):
    """``fedmedpeft_adapter.json``.

    Attributes:
        method: composition as configured, such as ``lora(rank=8)``.
        task: what it was trained for, such as ``vqa``.
        knowledge: what was read beside each text, such as ``open(concepts=5)``, without paths; empty: nothing.
        personal: parts that stayed at the sites and are not in this file.
        classes: names in the order of the head's outputs.
        backbone: name, architecture and preprocessing.
        backbone_revision: commit of a Hugging Face repository; empty elsewhere.
        fingerprint: of the backbone that the adapter was trained in.
        tensors: names, shapes and parts, in wire order.
        manifest_hash: hash of ``tensors``.
        state_hash: hash of names and values.
        seed: of the run; parts that stayed at the sites started from it.
        synthetic: trained on generated images.
        run: name of the run.
        fedmedpeft: version that wrote the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["fedmedpeft-adapter"] = FORMAT
    format_version: Literal[2, 3] = FORMAT_VERSION
    method: str
    task: str = "classification"
    knowledge: str = ""
    personal: tuple[str, ...] = ()
    classes: tuple[str, ...]
    backbone: BackboneRecord
    backbone_revision: str = ""
    fingerprint: str
    tensors: tuple[AdapterTensor, ...]
    manifest_hash: str
    state_hash: str
    seed: int = 0
    synthetic: bool = False
    run: str = ""
    fedmedpeft: str = __version__


@dataclass(frozen=True)
class SavedAdapter:
    """What :func:`read_adapter` gives back: where the tensors belong, and their values."""

    config: AdapterConfig
    state: PeftState


def save_adapter(
    directory: Path | str,
    state: PeftState,
    *,
    method: str,
    classes: tuple[str, ...],
    task: str = "classification",
    knowledge: str = "",
    backbone: BackboneRecord,
    fingerprint: str,
    backbone_revision: str = "",
    personal: tuple[str, ...] = (),
    seed: int = 0,
    synthetic: bool = False,
    run: str = "",
) -> AdapterConfig:
    """Write both files, each atomically; see :class:`AdapterConfig` for the arguments. Knowledge loses its path."""
    config = AdapterConfig(
        method=method,
        task=task,
        knowledge=without_path(knowledge),
        personal=personal,
        classes=classes,
        backbone=backbone,
        backbone_revision=backbone_revision,
        fingerprint=fingerprint,
        tensors=tuple(AdapterTensor(name=s.name, shape=s.shape, part=s.part) for s in state.manifest.tensors),
        manifest_hash=state.manifest.hash,
        state_hash=state.hash(),
        seed=seed,
        synthetic=synthetic,
        run=run,
    )
    # One entry only: safetensors writes several in no fixed order, and equal adapters are to be equal files.
    metadata = {"state_hash": config.state_hash}
    write_atomically(Path(directory) / TENSORS_FILE, save(state.tensors(), metadata))
    write_atomically(Path(directory) / CONFIG_FILE, config.model_dump_json(indent=2) + "\n")
    return config


def without_path(knowledge: str) -> str:
    """A source of knowledge as configured, without where it lies: that differs from site to site, and is private."""
    if not knowledge:
        return ""
    spec = parse_spec(knowledge)
    return str(ComponentSpec(spec.name, {key: value for key, value in spec.options.items() if key != "path"}))


def read_adapter(directory: Path | str) -> SavedAdapter:
    """Read and check an adapter directory.

    Raises:
        ConfigError: not there, of another program or format version, or damaged.
    """
    directory = Path(directory)
    _refuse_other_formats(directory)
    config = _read_config(directory / CONFIG_FILE)
    path = directory / TENSORS_FILE
    try:
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"Adapter: '{path}' cannot be read ({error}). Copy it again from the run.") from None
    manifest = Manifest.of(TensorSpec(t.name, t.shape, t.part) for t in config.tensors)
    if set(tensors) != {spec.name for spec in manifest.tensors} or manifest.hash != config.manifest_hash:
        raise ConfigError(f"Adapter: the tensors in '{path}' are not those that {CONFIG_FILE} lists. {_BELONG}")
    try:
        state = PeftState.from_tensors(manifest, tensors)
    except ValueError as error:
        raise ConfigError(f"Adapter: '{path}': {error} {_BELONG}") from None
    if state.hash() != config.state_hash:
        raise ConfigError(f"Adapter: the values in '{path}' are not those that were saved. {_BELONG}")
    return SavedAdapter(config, state)


_BELONG = "Copy both files again from the same run."


def is_adapter(directory: Path) -> bool:
    """Whether there is an adapter, of this or of another version or program; reading it says what is wrong."""
    return (directory / CONFIG_FILE).is_file() or (directory / HF_CONFIG_FILE).is_file()


def _refuse_other_formats(directory: Path) -> None:
    """Raise ConfigError where there are only the files of version 1, or of Hugging Face."""
    path = directory / HF_CONFIG_FILE
    if (directory / CONFIG_FILE).is_file() or not path.is_file():
        return
    content = _json(path)
    if content.get("format") == FORMAT:
        writer = content.get("fedmedpeft", "unknown")
        raise ConfigError(
            f"Adapter: '{directory}' has an older format, written by fedmedpeft {writer}; "
            f"this one ({__version__}) reads format_version={FORMAT_VERSION}. Load it with the version that wrote it."
        )
    raise ConfigError(
        f"Adapter: '{directory}' was not written by fedmedpeft: it holds a Hugging Face PEFT adapter. Load it with "
        f"peft.PeftModel, or start a run from it: start-from='{directory}'."
    )


def _read_config(path: Path) -> AdapterConfig:
    content = _json(path)
    if content.get("format") != FORMAT:
        raise ConfigError(f"Adapter: '{path}' was not written by fedmedpeft; expected format='{FORMAT}'.")
    version = content.get("format_version")
    if version not in READABLE:
        writer, readable = content.get("fedmedpeft", "unknown"), " or ".join(map(str, READABLE))
        raise ConfigError(
            f"Adapter: '{path}' has format_version={version!r}; this fedmedpeft ({__version__}) reads "
            f"format_version={readable}. Use the version that wrote it: {writer}."
        )
    try:
        return AdapterConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"Adapter: '{path}' is damaged: {explain(error)}.") from None


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where it holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Adapter: '{path}' cannot be read ({error.strerror}). Expected a run's adapter/.") from None
    except ValueError:
        raise ConfigError(f"Adapter: '{path}' is not JSON. Copy it again from the run.") from None
    return content if isinstance(content, dict) else {}
