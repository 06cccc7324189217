"""The manifest: every number that may cross the wire has a name, known to both sides beforehand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal, get_args

Part = Literal["method", "head"]
PARTS: tuple[Part, ...] = get_args(Part)

Encoding = Literal["float32", "float16", "int8"]
"""How numbers may be written: ``int8`` with one float32 scale for each tensor. This version sends float32."""

SCHEMA_VERSION = 1
"""Raised whenever the meaning of the bytes on the wire changes; it is part of the manifest's hash."""


@dataclass(frozen=True)
class TensorSpec:
    """One exchanged tensor: canonical name, shape, and the part of the PEFT state that it belongs to."""

    name: str
    shape: tuple[int, ...]
    part: Part

    @property
    def numel(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class Manifest:
    """The exchanged tensors in their order on the wire: sorted by name within each part, all float32."""

    tensors: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, specs: Iterable[TensorSpec]) -> Manifest:
        """Sort ``specs`` into wire order.

        Raises:
            ValueError: a name occurs twice.
        """
        ordered = tuple(sorted(specs, key=lambda spec: (PARTS.index(spec.part), spec.name)))
        names = [spec.name for spec in ordered]
        if len(set(names)) != len(names):
            raise ValueError("A tensor name occurs twice in the PEFT state.")
        return cls(ordered)

    def only(self, names: Container[str]) -> Manifest:
        """The tensors among ``names``, in the same order."""
        return Manifest(tuple(spec for spec in self.tensors if spec.name in names))

    def of_part(self, part: Part) -> tuple[TensorSpec, ...]:
        return tuple(spec for spec in self.tensors if spec.part == part)

    def numel(self, part: Part | None = None) -> int:
        """Numbers in one part, or in all."""
        return sum(spec.numel for spec in self.tensors if part in (None, spec.part))

    @property
    def nbytes(self) -> int:
        """Payload in bytes, without framing."""
        return self.payload("float32")

    def payload(self, encoding: Encoding) -> int:
        """Bytes that all the numbers take in this encoding, without framing."""
        if encoding == "int8":
            return self.numel() + 4 * len(self.tensors)
        return (4 if encoding == "float32" else 2) * self.numel()

    @cached_property
    def hash(self) -> str:
        """SHA-256 over schema version, names, shapes, parts and order."""
        text = json.dumps([SCHEMA_VERSION, "float32", [asdict(spec) for spec in self.tensors]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
