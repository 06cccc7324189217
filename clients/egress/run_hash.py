"""The hash of a run's configuration, by which a site approves of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmedpeft.components import parse_composition
from fedmedpeft.config import RunConfig
from fedmedpeft.run_file import read_run_file

SITE_KEYS: Mapping[str, str] = {
    "data": "a site trains on its own, as its site.yaml names it",
    "partition": "a site's data is not divided between sites",
    "sites": "how many others there are does not change what one does",
    "device": "of each machine",
    "runs-dir": "of each machine",
    "run-name": "a name, for the server's directories",
    "round-timeout": "how long the server waits does not change what a site does",
    "resume": "where the server goes on after it was interrupted",
    "privacy": "a site decides that for itself, in its site.yaml",
    "out-of-domain": "the same, for privacy='auto(...)'",
}
"""Keys that the hash leaves out, and why: a site puts its own in their place, or they mean nothing there."""

_COMPONENTS = ("method", "task", "strategy", "client-privacy")
_VERSION = 1


def run_hash(announced: RunConfig) -> str:
    """SHA-256 over all keys of ``announced`` but those of :data:`SITE_KEYS`, as 64 hexadecimal digits.

    Options count by what they say, not by how they are written: ``lora( rank=8 )`` and ``lora(rank=8)`` are one. Of
    ``knowledge`` it counts whether a run asks for it: where it comes from, each site says for itself.
    """
    values: dict[str, Any] = {key: value for key, value in announced.to_mapping().items() if key not in SITE_KEYS}
    values |= {key: _composition(values[key]) for key in _COMPONENTS}
    values["knowledge"] = bool(values["knowledge"])
    text = json.dumps([_VERSION, values], sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_run(path: Path) -> RunConfig:
    """A run's configuration: a TOML file of keys, one with a table ``[config]``, or a run's directory.

    Raises:
        ConfigError: it cannot be read, or is no run's configuration.
    """
    return RunConfig.from_mapping(read_run_file(path))


def _composition(text: object) -> list[Any]:
    return [[spec.name, dict(spec.options)] for spec in parse_composition(str(text))]
