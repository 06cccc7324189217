"""From cover and tone to a picture: a new place, palette, light and noise each time a rendering is shown."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

MEAN = 0.5
STD = 0.25


def colour(maps: Tensor, resolution: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Training images of the maps, and where in them the maps ended up.

    Args:
        maps: (batch, 2, size, size) uint8, cover and tone as :mod:`pretraining.formulas` renders them.
        resolution: side of the result in pixels, at most ``size``.
        generator: draws everything that is random here.

    Returns:
        Images (batch, 3, resolution, resolution) float32, normalised with ``MEAN`` and ``STD``, and their masks
        (batch, 2, resolution, resolution) in [0, 1]: the object, and the object times its tone.
    """
    size, each = maps.shape[-1], (len(maps), 1, 1, 1)
    moved = _move(maps.float() / 255, generator)
    cover, tone = moved[:, :1], moved[:, 1:]
    low, high, ground = _palette(len(maps), generator)
    backdrop = ground + _clouds(len(maps), 3, size, 0.25, generator)
    # A neighbour's tone as a faint backdrop: real objects seldom lie on a blank field.
    backdrop = backdrop + _uniform(each, -0.2, 0.2, generator) * tone.roll(1, 0)
    # Half of the objects are see-through to some degree: a lesion may hardly differ from its surroundings.
    cover = cover * _uniform(each, 0.25, 1.75, generator).clamp(max=1)
    image = torch.lerp(backdrop, torch.lerp(low, high, tone), cover)
    image = _blur_some(image + _clouds(len(maps), 1, size, 0.12, generator), generator)
    masks = torch.cat([moved[:, :1], moved[:, :1] * tone], 1)
    if resolution != size:
        both = functional.interpolate(
            torch.cat([image, masks], 1), (resolution, resolution), mode="bilinear", antialias=True, align_corners=False
        )
        image, masks = both[:, :3], both[:, 3:]
    noise = torch.randn(image.shape, generator=generator) * _uniform(each, 0, 0.08, generator)
    return ((image + noise).clamp(0, 1) - MEAN) / STD, masks


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _move(maps: Tensor, generator: torch.Generator) -> Tensor:
    """A random crop, stretch, turn (up to 30 degrees), flip and shift of each sample."""
    batch = len(maps)
    angle = _uniform((batch,), -math.pi / 6, math.pi / 6, generator)
    scale = torch.exp(_uniform((batch, 2), math.log(0.92), math.log(1.08), generator))
    scale = scale * torch.exp(_uniform((batch, 1), math.log(0.6), math.log(1.6), generator))
    flip = (torch.rand(batch, 2, generator=generator) < 0.5).float() * 2 - 1
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(batch, 2, 2)
    # A close-up looks anywhere in the rendering; in an overview the whole of it lies anywhere in the image.
    reach = (scale.mean(1, keepdim=True) - 1).abs().clamp(min=0.1)
    shift = _uniform((batch, 2), -1, 1, generator) * reach
    theta = torch.cat([turn * (scale * flip)[:, None, :], shift[:, :, None]], 2)
    grid = functional.affine_grid(theta, list(maps.shape), align_corners=False)
    return functional.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)


def _palette(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Colours (batch, 3, 1, 1) of both ends of the tone and of the ground; two samples in five are grey."""
    colours = torch.rand(3, batch, 3, generator=generator)
    # Kept apart by pushing the tone's far end and the ground away from its near end where they are too alike.
    for other in (1, 2):
        gap = colours[other] - colours[0]
        near = gap.abs().amax(1, keepdim=True) < 0.3
        away = torch.where(colours[0] < 0.5, 0.4, -0.4)
        colours[other] = torch.where(near, colours[other] + away, colours[other])
    grey = torch.rand(batch, 1, generator=generator) < 0.4
    colours = torch.where(grey, colours[:, :, :1].expand(-1, -1, 3), colours)
    low, high, ground = colours[..., None, None]
    return low, high, ground


def _clouds(batch: int, channels: int, size: int, strength: float, generator: torch.Generator) -> Tensor:
    """Smooth unevenness (batch, channels, size, size) of random strength around zero; half of it is without colour."""
    coarse = torch.randn(batch, channels, 4, 4, generator=generator)
    coarse = coarse * _uniform((batch, 1, 1, 1), 0, strength, generator)
    grey = torch.rand(batch, 1, 1, 1, generator=generator) < 0.5
    coarse = torch.where(grey, coarse[:, :1].expand(-1, channels, -1, -1), coarse)
    # Linear interpolation as two matrix products, ten times as fast as functional.interpolate on a CPU.
    spread = functional.interpolate(torch.eye(4)[None], size, mode="linear", align_corners=False)[0].T
    return spread @ coarse @ spread.T


def _blur_some(image: Tensor, generator: torch.Generator) -> Tensor:
    """Mix each sample with its 3 x 3 mean by a random share."""
    share = _uniform((len(image), 1, 1, 1), -1, 1, generator).clamp(min=0)
    return torch.lerp(image, functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False), share)
