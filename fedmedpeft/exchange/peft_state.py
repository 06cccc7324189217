"""The PEFT state: the named tensors of a learner that are exchanged, as one flat vector per part."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmedpeft.exchange.manifest import Manifest, Part

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class EncodedState:
    """A PEFT state as it travels: nobody has checked it yet. ``Contract.admit`` turns it into a PeftState."""

    manifest_hash: str
    vectors: Mapping[str, Vector]


@dataclass(frozen=True)
class PeftState:
    """Values for every tensor of ``manifest``: per part that has any, one float32 vector in the manifest's order."""

    manifest: Manifest
    vectors: Mapping[Part, Vector]

    @classmethod
    def from_tensors(cls, manifest: Manifest, tensors: Mapping[str, NDArray[np.floating]]) -> PeftState:
        """Concatenate named arrays. Raises KeyError or ValueError where a name or a shape differs."""
        vectors: dict[Part, Vector] = {}
        for part in ("method", "head"):
            pieces = []
            for spec in manifest.of_part(part):
                if tensors[spec.name].shape != spec.shape:
                    raise ValueError(f"'{spec.name}' has shape {tensors[spec.name].shape}, expected {spec.shape}.")
                pieces.append(np.asarray(tensors[spec.name], dtype=np.float32).ravel())
            if pieces:
                vectors[part] = np.concatenate(pieces)
        return cls(manifest, vectors)

    def tensors(self) -> dict[str, Vector]:
        """Named views into the vectors, in the manifest's shapes."""
        views: dict[str, Vector] = {}
        for part, vector in self.vectors.items():
            start = 0
            for spec in self.manifest.of_part(part):
                views[spec.name] = vector[start : start + spec.numel].reshape(spec.shape)
                start += spec.numel
        return views

    def only(self, manifest: Manifest) -> PeftState:
        """The values of ``manifest``, which names some of these tensors. Raises KeyError where one is not here."""
        return self if manifest == self.manifest else PeftState.from_tensors(manifest, self.tensors())

    def updated(self, part: PeftState) -> PeftState:
        """These values with those of ``part``, which has some of these tensors, in their place."""
        if part.manifest == self.manifest:
            return part
        return PeftState.from_tensors(self.manifest, self.tensors() | part.tensors())

    def encode(self) -> EncodedState:
        return EncodedState(self.manifest.hash, {str(part): vector for part, vector in self.vectors.items()})

    def hash(self) -> str:
        """SHA-256 over the manifest's hash and all values."""
        digest = hashlib.sha256(self.manifest.hash.encode())
        for part in sorted(self.vectors):
            digest.update(part.encode() + np.ascontiguousarray(self.vectors[part]).tobytes())
        return digest.hexdigest()

    def norm(self) -> float:
        """Euclidean norm over all values."""
        return float(np.sqrt(sum(np.dot(v.astype(np.float64), v.astype(np.float64)) for v in self.vectors.values())))
