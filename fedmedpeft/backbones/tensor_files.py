"""Files of named tensors: safetensors, and torch's own, of which nothing but tensors is ever read."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from fedmedpeft.components import ConfigError

SAFETENSORS = ".safetensors"
_LIGHTNING = ("pytorch_lightning.", "lightning.")
_KEYS = ("state_dict", "model")


def find_checkpoint(name: str) -> tuple[Path, str]:
    """The file of ``checkpoint=name``, and what begins an error about it. Raises ConfigError where there is none."""
    path, source = Path(name), f"checkpoint='{name}'"
    if not path.is_file():
        raise ConfigError(f"{source}: there is no such file on this machine. Give an absolute path to it.")
    return path, source


def read_tensors(path: Path, source: str) -> dict[str, torch.Tensor]:
    """The tensors of a file, on the CPU; of a training checkpoint those in its ``state_dict`` or ``model``.

    Args:
        path: ``*.safetensors``, or a file that torch saved.
        source: begins every error: what was asked for.

    Raises:
        ConfigError: it cannot be read, or holds anything but numbers and tensors.
    """
    if path.suffix != SAFETENSORS:
        return _state_dict(_load(path, source), path.name, source)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, source) from error


def read_shapes(path: Path, source: str) -> dict[str, torch.Size]:
    """The shapes of the tensors in a file, without their values. Arguments and errors as in :func:`read_tensors`."""
    if path.suffix != SAFETENSORS:
        return {name: tensor.shape for name, tensor in _state_dict(_load(path, source), path.name, source).items()}
    try:
        with safe_open(path, framework="pt") as file:
            return {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, source) from error


class _Aside:
    """Stands for a class of Lightning's beside the tensors: what is made of it is a plain dictionary."""

    def __new__(cls, *_: object, **__: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


def _load(path: Path, source: str) -> Any:
    """What torch saved; nothing in it is run, and values are only read from the disk when they are used.

    METER and M3AE were trained with PyTorch Lightning, which stores classes of its callbacks and an object of
    hyper-parameters beside the state_dict. Something inert stands in for these; anything else is refused.
    """
    zipped = zipfile.is_zipfile(path)
    try:
        strangers = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
        aside: list[Any] = [(_Aside, name) for name in strangers if name.startswith(_LIGHTNING)]
        with torch.serialization.safe_globals(aside):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # torch raises many kinds for damaged files
        # The errors' own texts hold local paths and advice to trust the file; these sentences may travel.
        if zipped and type(error).__name__ == "UnpicklingError":
            raise ConfigError(
                f"{source}: '{path.name}' holds objects beside its tensors, which could run code here and are not "
                "read. On a machine where that does not matter, save its state_dict alone, as *.safetensors."
            ) from error
        raise _unreadable(path, source) from error


def _state_dict(content: Any, file: str, source: str) -> dict[str, torch.Tensor]:
    found = next((content[key] for key in _KEYS if key in content), content) if isinstance(content, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise ConfigError(f"{source}: '{file}' is no checkpoint: there are no named tensors in it.")
    return {str(name): tensor for name, tensor in found.items()}


def _unreadable(path: Path, source: str) -> ConfigError:
    # Without the error's own text, which may hold local paths: this sentence may travel.
    return ConfigError(f"{source}: '{path.name}' cannot be read: it is damaged or cut short. Fetch it again.")
