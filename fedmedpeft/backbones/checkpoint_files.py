"""Where a backbone's files lie: shipped with the package, in a directory, or in Hugging Face's cache or hub."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from transformers.utils.hub import cached_file

from fedmedpeft.backbones.tokenizer import TOKENIZER_FILES
from fedmedpeft.components import ConfigError

EMBEDDED = "embedded"
"""The name of the small ViT that ships with the package (see docs/embedded-backbone.md)."""


class CheckpointFiles(NamedTuple):
    """A checkpoint's configuration, what it says of preprocessing, and its weights if they were asked for."""

    config: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: Path | None

    @property
    def is_hugging_face(self) -> bool:
        """Told by ``model_type``, which transformers writes and timm does not."""
        return "model_type" in self.config


def locate(name: str, revision: str, *, weights: bool) -> CheckpointFiles:
    """Find a backbone; see ``loading.load_record`` for the arguments.

    Raises:
        ConfigError: nothing there, or files that are not what they should be.
    """
    directory = embedded_directory() if name == EMBEDDED else Path(name)
    if directory.is_dir():
        if revision:
            raise ConfigError(f"backbone-revision='{revision}' applies to Hugging Face names; '{name}' is local.")
        return _in_directory(name, directory, weights=weights)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ConfigError(
            f"backbone='{name}' is neither '{EMBEDDED}', nor a directory on this machine, nor a Hugging Face name "
            "(organisation/model). Give an absolute path to the directory that holds config.json."
        )
    return _in_hub(name, revision, weights=weights)


def embedded_directory() -> Path:
    return Path(str(resources.files("fedmedpeft.backbones") / EMBEDDED))


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no such file. Raises ConfigError where it holds anything else."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path.name}' of the backbone is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"'{path.name}' of the backbone holds a {type(content).__name__}, expected an object.")
    return content


def _in_directory(name: str, directory: Path, *, weights: bool) -> CheckpointFiles:
    config = read_json(directory / "config.json")
    if config is None:
        raise ConfigError(f"backbone='{name}': no config.json in it. Save the model with save_pretrained() there.")
    preprocessing = read_json(directory / "preprocessing.json") or read_json(directory / "preprocessor_config.json")
    if not weights:
        return CheckpointFiles(config, preprocessing or {}, None)
    found = sorted(directory.glob("*.safetensors"))
    if len(found) != 1:
        raise ConfigError(f"backbone='{name}': {len(found)} *.safetensors files in it, expected exactly one.")
    files = CheckpointFiles(config, preprocessing or {}, found[0])
    if files.is_hugging_face and found[0].name != "model.safetensors":
        raise ConfigError(f"backbone='{name}': '{found[0].name}' must be called model.safetensors.")
    return files


def _in_hub(name: str, revision: str, *, weights: bool) -> CheckpointFiles:
    def fetch(filename: str, *, required: bool) -> Path | None:
        path = cached_file(name, filename, revision=revision or None, _raise_exceptions_for_missing_entries=required)
        return Path(path) if path else None

    try:
        config = fetch("config.json", required=True)
        preprocessing = fetch("preprocessor_config.json", required=False)
        tensors = fetch("model.safetensors", required=True) if weights else None
        content = (config and read_json(config)) or {}
        # They land beside the weights, where the tokenizer is looked for.
        for filename in TOKENIZER_FILES if weights and "text_config" in content else ():
            fetch(filename, required=False)
    except OSError as error:
        # The error's own text may hold local paths, and this sentence may travel.
        raise ConfigError(
            f"backbone='{name}'{f' at {revision}' if revision else ''} is neither in this machine's cache nor could it "
            "be fetched, or has no config.json and model.safetensors. Offline, download it once and give its "
            f"directory, or use backbone='{EMBEDDED}'."
        ) from error
    return CheckpointFiles(content, (preprocessing and read_json(preprocessing)) or {}, tensors)
