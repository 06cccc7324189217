"""Where in an image a token was: a linear discriminant over its positions, learnt from public images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_RIDGE = 1e-6
_NEARLY_ALL, _TOLERANCE = 0.99, 1.5
"""A token further from every position than this times nearly all public ones is a mixture of several."""


@dataclass(frozen=True)
class TokenPlaces:
    """Means of the tokens of each position, and a metric in which they lie as far apart as tokens let them.

    A position's embedding is the same in every image, and some directions hardly depend on the pixels: dividing by the
    spread within positions (Fisher's discriminant) shows it there.

    Attributes:
        means: [T, d].
        whiten: [d, d], so that tokens of one position have unit covariance.
        axes: [K, d], directions of tokens along which positions differ, the best first.
        spread: typical standard deviation of one coordinate of a token.
        far: distance beyond which a vector is no token of any position.
    """

    means: torch.Tensor
    whiten: torch.Tensor
    axes: torch.Tensor
    spread: torch.Tensor
    far: float

    @classmethod
    def of(cls, tokens: torch.Tensor) -> TokenPlaces:
        """Learn from tokens [P, T, d] of public images."""
        tokens = tokens.double()
        means = tokens.mean(0)
        within = (tokens - means).flatten(0, 1)
        covariance = within.T @ within / len(within)
        ridge = _RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
        values, vectors = torch.linalg.eigh(covariance + ridge)
        whiten = vectors / values.sqrt()
        # The class token lies apart from all patches: it would be the first axis alone.
        patches = (means[1:] - means[1:].mean(0)) @ whiten
        _, strengths, axes = torch.linalg.svd(patches, full_matrices=False)
        distance = (within @ whiten).norm(dim=1).sort().values
        far = _TOLERANCE * float(distance[int(_NEARLY_ALL * (len(distance) - 1))])
        return cls(means, whiten, strengths[:, None] * axes @ whiten.T, tokens.flatten(0, 1).std(0).mean(), far)

    def find(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [K, d] -> the position of each, int64 [K], and the distance from it [K]."""
        distance = torch.cdist(tokens.double() @ self.whiten, self.means @ self.whiten)
        nearest = distance.min(1)
        return nearest.indices, nearest.values

    def share_found(self, tokens: torch.Tensor) -> float:
        """Of tokens [P, T, d], how many are nearest to their own position."""
        found, _ = self.find(tokens.flatten(0, 1))
        return float((found.view(tokens.shape[:2]) == torch.arange(tokens.shape[1])).double().mean())

    def direction(self, leading: int, generator: torch.Generator) -> torch.Tensor:
        """A random unit vector [d] among the ``leading`` axes."""
        axes = self.axes[:leading]
        mixed = torch.randn(len(axes), generator=generator).double() @ axes
        unit: torch.Tensor = mixed / mixed.norm()
        return unit
