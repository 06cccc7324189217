"""The drawing of phantoms: tissue, and lesions that differ by shape, margin, texture and number."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

# The first n are the classes of a source with n classes.
KINDS = ("smooth", "spiculated", "mottled", "multifocal", "annular", "clear")

_Grid = tuple[np.ndarray, np.ndarray]


def render(kind: str, size: int, zoom: float, *, rng: np.random.Generator, tissue: np.random.Generator) -> Image.Image:
    """One image of ``kind``, RGB [size, size]. ``tissue`` draws the background, ``rng`` all the rest.

    ``zoom`` above 1 is a narrower field of view. The kinds overlap on purpose: margins, contrast, size and texture
    strength vary within a kind about as much as between kinds.
    """
    x, y = _grid(size)
    grid = (x / np.float32(zoom), y / np.float32(zoom))
    picture = _tissue(size, tissue, rng)
    colour = _lesion_colour(picture, rng)
    for _ in range(int(rng.integers(0, 3))):
        _paint(picture, 0.6 * _spot(grid, rng, radius=rng.uniform(0.04, 0.12)), colour + 0.08 * _triple(rng))
    if kind != "clear":
        for mask in _lesions(kind, grid, rng):
            strength = rng.uniform(0.3, 0.65) if kind == "mottled" else rng.uniform(0.0, 0.18)
            _paint(picture, mask, colour, _texture(size, rng, strength))
    return Image.fromarray(np.rint(np.clip(picture, 0.0, 1.0) * 255).astype(np.uint8))


def _lesions(kind: str, grid: _Grid, rng: np.random.Generator) -> list[np.ndarray]:
    """Opacity masks [size, size] in 0..1, one per lesion."""
    roughness = rng.uniform(0.15, 0.35) if kind == "spiculated" else rng.uniform(0.0, 0.08)
    masks = []
    for centre, radius in _places(kind, rng):
        mask = _blob(grid, rng, centre, radius, roughness)
        if kind == "annular":
            mask = mask * (1 - 0.85 * _blob(grid, rng, centre, radius * rng.uniform(0.45, 0.65), roughness))
        masks.append(mask)
    return masks


def _places(kind: str, rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Centre and radius of each lesion; several lie round a common centre and may still touch."""
    centre, radius = rng.uniform(-0.25, 0.25, size=2), rng.uniform(0.34, 0.56)
    if kind != "multifocal":
        return [(centre, radius)]
    count, turn = int(rng.integers(2, 5)), rng.uniform(0, 2 * np.pi)
    angles = turn + 2 * np.pi * np.arange(count) / count + rng.uniform(-0.3, 0.3, size=count)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.35, 0.62, size=(count, 1))
    return [(centre / 2 + offset, radius * rng.uniform(0.35, 0.65)) for offset in around]


def _blob(grid: _Grid, rng: np.random.Generator, centre: np.ndarray, radius: float, roughness: float) -> np.ndarray:
    """A closed contour ``r(angle)`` as a sum of harmonics, with a soft edge."""
    x, y = grid[0] - np.float32(centre[0]), grid[1] - np.float32(centre[1])
    stretch = np.float32(np.exp(rng.uniform(-0.3, 0.3)))
    turn = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    along, across = (x * cos + y * sin) * stretch, (y * cos - x * sin) / stretch
    angles, contour = _contour(rng, roughness)
    position = (np.arctan2(across, along) + np.float32(np.pi)) * np.float32(len(angles) / (2 * np.pi))
    edge = radius * contour[position.astype(np.int32) % len(angles)]
    softness = rng.uniform(0.02, 0.09)
    depth = (edge - np.hypot(along, across)) / np.float32(softness)
    return 1 / (1 + np.exp(-np.clip(depth, -20, 20)))


def _contour(rng: np.random.Generator, roughness: float) -> tuple[np.ndarray, np.ndarray]:
    """Relative radius at 256 angles: three slow harmonics for the shape, quick ones for a rough margin."""
    angles = np.linspace(0, 2 * np.pi, 256, endpoint=False, dtype=np.float32)
    slow, quick = np.array([2, 3, 4]), rng.integers(6, 14, size=4)
    orders = np.concatenate([slow, quick]).astype(np.float32)
    heights = np.concatenate([0.09 * rng.standard_normal(3), roughness * rng.uniform(0.3, 1.0, size=4)])
    waves = np.cos(orders[:, None] * angles + rng.uniform(0, 2 * np.pi, size=(7, 1)).astype(np.float32))
    return angles, np.maximum(1 + heights.astype(np.float32) @ waves, np.float32(0.15))


def _spot(grid: _Grid, rng: np.random.Generator, radius: float) -> np.ndarray:
    x, y = rng.uniform(-0.9, 0.9, size=2)
    squared = (grid[0] - np.float32(x)) ** 2 + (grid[1] - np.float32(y)) ** 2
    spot: np.ndarray = np.exp(-squared / np.float32(radius**2))
    return spot


def _tissue(size: int, tissue: np.random.Generator, rng: np.random.Generator) -> np.ndarray:
    """Background [size, size, 3]: the patient's colour, slow shading and fine grain."""
    base = np.array([0.80, 0.62, 0.56], dtype=np.float32) + np.float32(0.05) * _triple(tissue)
    shading = np.float32(0.06) * _clouds(size, 4, tissue) + np.float32(0.03) * _clouds(size, max(8, size // 4), rng)
    tint = 1 + np.float32(0.25) * _triple(rng)
    picture: np.ndarray = base + shading[:, :, None] * tint
    return picture


def _lesion_colour(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darker and redder than the tissue by a random contrast."""
    contrast = rng.uniform(0.17, 0.45)
    direction = np.array([0.8, 1.1, 1.0], dtype=np.float32) + np.float32(0.18) * _triple(rng)
    colour: np.ndarray = picture.mean(axis=(0, 1)) - np.float32(contrast) * direction
    return colour


def _texture(size: int, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Lumps [size, size] around 0, a sixth to a tenth of the image wide."""
    lumps: np.ndarray = np.float32(strength * 0.5) * _clouds(size, int(rng.integers(8, 15)), rng)
    return lumps


def _paint(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray, texture: np.ndarray | None = None) -> None:
    """Lay ``colour`` over ``picture`` in place."""
    layer = colour if texture is None else colour + texture[:, :, None]
    picture += mask[:, :, None] * (layer - picture)


def _clouds(size: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise [size, size] of unit variance at its ``cells`` x ``cells`` knots."""
    knots = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(knots.resize((size, size), Image.Resampling.BICUBIC))


def _triple(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(3, dtype=np.float32)


@lru_cache(maxsize=8)
def _grid(size: int) -> _Grid:
    """x and y of the pixel centres, float32 [size, size] in -1..1."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, axis)
    return x, y
