"""Position embeddings for another image size."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate


def resize_positions(positions: torch.Tensor, side: int, prefix: int = 1) -> torch.Tensor:
    """[1, prefix + g*g, d] -> [1, prefix + side*side, d]: prefix rows kept, the grid interpolated bicubically."""
    grid = round((positions.shape[1] - prefix) ** 0.5)
    if grid == side:
        return positions
    image = positions[:, prefix:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    resized = interpolate(image, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :prefix], resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
