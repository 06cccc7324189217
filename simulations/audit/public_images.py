"""What a server may know of images before it has seen an update: others of the same kind."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

from fedmedpeft.data.site_data import SiteData

_FEWEST = 8
_NOISE = 64
_COARSE = 8


def public_images(data: SiteData, seed: int) -> torch.Tensor:
    """Images of the same kind as the site's training images, float [P, 3, S, S] in 0..1.

    The attacker's best case: the site's own validation images stand for public ones of its scanner. Where there are
    fewer than eight, smooth noise does.
    """
    if len(data.val.images) >= _FEWEST:
        return data.val.images.float() / 255
    generator, size = torch.Generator().manual_seed(seed), data.train.images.shape[-1]
    coarse = torch.rand(_NOISE, 3, _COARSE, _COARSE, generator=generator)
    fine = torch.randn(_NOISE, 3, size, size, generator=generator)
    return (interpolate(coarse, size=size, mode="bicubic") + 0.1 * fine).clamp(0, 1)


@dataclass(frozen=True)
class Span:
    """Mean of public images, and the directions in which they differ most: a small prior of what images look like.

    Attributes:
        mean: [3, S, S].
        basis: [K, 3 S S]; a coordinate of one is one standard deviation.
    """

    mean: torch.Tensor
    basis: torch.Tensor

    @classmethod
    def of(cls, images: torch.Tensor, directions: int) -> Span:
        """Of ``images`` [P, 3, S, S] with their rotations and reflections."""
        turned = [torch.rot90(side, turns, (2, 3)) for turns in range(4) for side in (images, images.flip(3))]
        flat = torch.cat(turned).flatten(1)
        mean = flat.mean(0)
        _, deviations, axes = torch.linalg.svd(flat - mean, full_matrices=False)
        scaled = (deviations / len(flat) ** 0.5)[:, None] * axes
        return cls(mean.view(images.shape[1:]), scaled[:directions])

    def images(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Coordinates [B, K] -> images [B, 3, S, S] in 0..1."""
        flat = self.mean.flatten() + coordinates @ self.basis
        return flat.view(-1, *self.mean.shape).clamp(0, 1)
