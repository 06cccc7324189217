"""The contract: what a PEFT state must be before either side lets it in or out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedmedpeft.exchange.manifest import PARTS, Manifest
from fedmedpeft.exchange.peft_state import EncodedState, PeftState


class ContractError(ValueError):
    """A PEFT state breaks the contract. The message holds no values and may be shown to the other side."""


@dataclass(frozen=True)
class Contract:
    """Derived on each side from its own configuration, never taken from the other.

    Args:
        manifest: names, shapes and order of the exchanged tensors.
        max_norm: largest Euclidean norm that a state may have.
    """

    manifest: Manifest
    max_norm: float = 1e6

    def over(self, manifest: Manifest) -> Contract:
        """The same terms for a part of the tensors."""
        return replace(self, manifest=manifest)

    def admit(self, encoded: EncodedState) -> PeftState:
        """Check what arrived and give it its names.

        Raises:
            ContractError: another manifest, a part that is missing or unknown, another length or dtype,
                values that are not finite, or a norm above the ceiling.
        """
        manifest_hash, vectors = encoded.manifest_hash, encoded.vectors
        if manifest_hash != self.manifest.hash:
            raise ContractError(
                f"manifest {manifest_hash[:12] or '(none)'} differs from ours ({self.manifest.hash[:12]}): "
                "both sides must run the same method, backbone architecture, classes and version"
            )
        expected = {part: self.manifest.numel(part) for part in PARTS if self.manifest.numel(part)}
        if set(vectors) != set(expected):
            raise ContractError(f"parts {sorted(vectors)} arrived, expected {sorted(expected)}")
        for part, numel in expected.items():
            vector = vectors[part]
            if vector.dtype != np.float32 or vector.shape != (numel,):
                raise ContractError(
                    f"part '{part}' is {vector.dtype} of shape {vector.shape}, expected float32 of shape ({numel},)"
                )
            if not np.isfinite(vector).all():
                raise ContractError(f"part '{part}' holds values that are not finite")
        state = PeftState(self.manifest, {part: vectors[part] for part in expected})
        if state.norm() > self.max_norm:
            raise ContractError(f"norm {state.norm():.3g} is above the ceiling of {self.max_norm:.3g}")
        return state
