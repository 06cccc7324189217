"""What the features of a domain's images are like, as a file: per dimension a mean and a standard deviation."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError, explain

FORMAT: Final = "fedmedpeft-feature-reference"
REFERENCE_FILE = "domain_reference.json"
"""Its name beside the weights of a backbone that brings one."""
_LARGEST = 16 * 2**20
"""Bytes of the largest file that is read."""
_AGAIN = "Make it again: `fedmedpeft privacy reference`."


@dataclass(frozen=True, eq=False)
class FeatureReference:
    """Statistics of a frozen backbone's features over the images of a domain.

    Aggregates over all images, and not differentially private: made of patients' images, it says of them what a mean
    over so many says.

    Args:
        mean, std: float32 [d], of each dimension.
        samples: n, images that they are over.
        fingerprint: of the backbone.
        source: what the images are, in words, without paths.
        threshold: largest distance that still is within the domain.

    Raises:
        ValueError: one of them cannot be; the message says which.
    """

    mean: torch.Tensor
    std: torch.Tensor
    samples: int
    fingerprint: str
    source: str
    threshold: float

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or not len(self.mean):
            raise ValueError(f"mean has shape {list(self.mean.shape)}; expected one number for each dimension")
        if self.mean.shape != self.std.shape:
            raise ValueError(
                f"{len(self.mean)} means and {self.std.numel()} standard deviations do not belong together"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not torch.isfinite(values).all():
                raise ValueError(f"{name} has a value that float32 cannot hold or that is not finite")
        if (self.std < 0).any():
            raise ValueError("a standard deviation is below 0")
        if self.samples < 2:
            raise ValueError(f"samples={self.samples}: a standard deviation needs 2 images at least")
        if not 0 < self.threshold < float("inf"):
            raise ValueError(f"threshold={self.threshold} must be above 0 and finite")
        if not re.fullmatch(r"[0-9a-f]{64}", self.fingerprint):
            raise ValueError(f"fingerprint '{self.fingerprint[:80]}' is no SHA-256 (64 hexadecimal digits)")

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all. Raises ConfigError where that cannot be written."""
        content = {
            "format": FORMAT,
            "format_version": 1,
            "source": self.source,
            "samples": self.samples,
            "fingerprint": self.fingerprint,
            "threshold": self.threshold,
            # As short as float32 can be told apart: the file is read by people too.
            **{name: [float(f"{value:.9g}") for value in getattr(self, name).tolist()] for name in ("mean", "std")},
        }
        try:
            write_atomically(path, json.dumps(content, indent=None, separators=(",", ":")) + "\n")
        except OSError as error:
            raise ConfigError(f"reference '{path}' cannot be written ({error.strerror}).") from None

    @classmethod
    def load(cls, path: Path) -> FeatureReference:
        """Read and check what :meth:`save` wrote.

        Raises:
            ConfigError: not there, not JSON, of another format or version, or values that cannot be.
        """
        content = _json(path)
        if content.get("format") != FORMAT:
            raise ConfigError(f"reference '{path}' is not a feature reference (format='{FORMAT}'). {_AGAIN}")
        if content.get("format_version") != 1:
            version = content.get("format_version")
            raise ConfigError(f"reference '{path}' has format_version={version!r}; this version reads 1. {_AGAIN}")
        try:
            file = _File.model_validate(content)
            return cls(
                mean=torch.tensor(file.mean, dtype=torch.float32),
                std=torch.tensor(file.std, dtype=torch.float32),
                samples=file.samples,
                fingerprint=file.fingerprint,
                source=file.source,
                threshold=file.threshold,
            )
        except ValidationError as error:
            raise ConfigError(f"reference '{path}' is damaged: {explain(error)}. {_AGAIN}") from None
        except ValueError as error:
            raise ConfigError(f"reference '{path}' is damaged: {error}. {_AGAIN}") from None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    format_version: Literal[1]
    source: str
    samples: int
    fingerprint: str
    threshold: FiniteFloat
    mean: list[FiniteFloat]
    std: list[FiniteFloat]


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where it holds anything else."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"reference '{path}' cannot be read ({error.strerror}). {_AGAIN}") from None
    if len(raw) > _LARGEST:
        raise ConfigError(f"reference '{path}' has more than {_LARGEST // 2**20} MiB: it is none. {_AGAIN}")
    try:
        content = json.loads(raw.decode())
    except (ValueError, RecursionError):
        raise ConfigError(f"reference '{path}' is not JSON. {_AGAIN}") from None
    return content if isinstance(content, dict) else {}
