"""One cell of a study: an ordinary run, and the name it has on disk."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedmedpeft import __version__
from fedmedpeft.config import Mode, RunConfig

_WHERE = ("runs-dir", "run-name", "resume")
_NAME_LENGTH = 60


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Args:
        config: complete, with the number of sites; where it is written is not part of it.
        partition_hash: who has which images; with it the data is part of the cell's identity.
    """

    config: RunConfig
    partition_hash: str

    @property
    def kind(self) -> Mode:
        return self.config.mode

    @property
    def method(self) -> str:
        return self.config.method

    @property
    def group(self) -> str:
        """What its figures belong to: the method, or the kind of reference."""
        return self.method if self.kind == "federated" else self.kind

    @property
    def partition(self) -> str:
        return self.config.partition

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def scale(self) -> float:
        return self.config.learning_rate_scale

    @property
    def key(self) -> str:
        """Hash of everything that decides the result: configuration, partition, and version of this program."""
        return identity(self.config.to_mapping(), self.partition_hash, __version__)

    @property
    def name(self) -> str:
        """Readable, and different for different cells."""
        parts = (self.method if self.kind == "federated" else f"{self.kind}-{self.method}", self.partition)
        text = "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts)[:_NAME_LENGTH].strip("-")
        return f"{text}-s{self.seed}-x{self.scale:g}-{self.key[:10]}"

    @property
    def label(self) -> str:
        """For a person who watches."""
        what = self.method if self.kind == "federated" else f"{self.kind} {self.method}"
        return f"{what}, {self.partition}, seed {self.seed}, step sizes x{self.scale:g}"


def identity(config: Mapping[str, Any], partition_hash: str, version: str) -> str:
    """What a finished run is recognised by; ``config`` as in a run's ``config.toml``."""
    settings = {key: value for key, value in config.items() if key not in _WHERE}
    content = json.dumps([settings, partition_hash, version], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
