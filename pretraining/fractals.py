"""Fractals of iterated function systems, drawn with the chaos game."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CHAINS = 256  # points that walk in parallel through one fractal
BURN_IN = 15  # steps until a point is on the attractor, to less than a pixel
STEPS = 40  # steps that are drawn


@dataclass(frozen=True)
class FractalFormula:
    """``maps`` affine contractions x -> A x + b; the category is the set of (A, b).

    A is drawn by its singular values, whose weighted sum is held in the band where attractors are neither dust nor
    a blot (Anderson & Farrell, "Improving Fractal Pre-training", WACV 2022, arXiv 2110.03091, section 3.2).
    """

    matrices: Floats  # (maps, 2, 2)
    shifts: Floats  # (maps, 2)

    @classmethod
    def draw(cls, rng: np.random.Generator) -> FractalFormula:
        maps = int(rng.integers(2, 6))
        while True:
            large = rng.uniform(0.1, 0.95, maps)
            small = large * rng.uniform(0.0, 1.0, maps)
            if 0.5 * (5 + maps) <= (large + 2 * small).sum() <= 0.5 * (6 + maps):
                break
        first, second = _rotations(rng, maps), _rotations(rng, maps)
        signs = rng.choice([-1.0, 1.0], (maps, 1, 2))
        matrices = first @ (np.stack([large, small], 1)[:, :, None] * second) * signs
        return cls(matrices, rng.uniform(-1.0, 1.0, (maps, 2)))

    def render(self, count: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """See :class:`pretraining.formulas.Formula`; variations move every coefficient by a few per cent."""
        maps = len(self.shifts)
        matrices = self.matrices * (1 + rng.normal(0, 0.04, (count, maps, 2, 2)))
        shifts = self.shifts + rng.normal(0, 0.04, (count, maps, 2))
        points = _chaos_game(matrices, shifts, self._odds(), rng)
        low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
        # One scale for both axes keeps the shape; the 2-pixel margin keeps its outline inside the image.
        scale = (size - 5) / np.maximum((high - low).max(2, keepdims=True), 1e-6)
        pixels = np.round((points - (low + high) / 2) * scale + (size - 1) / 2).astype(np.int64)
        flat = (np.arange(count)[:, None] * size + pixels[..., 1]) * size + pixels[..., 0]
        hits = np.bincount(flat.ravel(), minlength=count * size * size).reshape(count, size, size)
        density = np.log1p(hits)
        tone = density / density.max((1, 2), keepdims=True)
        return np.stack([np.minimum(hits / 2, 1.0), tone], 1).astype(np.float32)

    def _odds(self) -> Floats:
        """A map is taken as often as the area that it covers, so that the attractor is drawn evenly."""
        area = np.abs(np.linalg.det(self.matrices)) + 0.01
        return np.asarray(area / area.sum())


def _rotations(rng: np.random.Generator, count: int) -> Floats:
    angle = rng.uniform(0, 2 * np.pi, count)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)


def _chaos_game(matrices: Floats, shifts: Floats, odds: Floats, rng: np.random.Generator) -> Floats:
    """Points on the attractors, (count, STEPS * CHAINS, 2), of systems (count, maps, 2, 2) and (count, maps, 2)."""
    count, maps = shifts.shape[:2]
    rows = np.arange(count)[:, None]
    choices = rng.choice(maps, (BURN_IN + STEPS, count, CHAINS), p=odds)
    points = np.zeros((count, CHAINS, 2))
    drawn = []
    for step, choice in enumerate(choices):
        points = np.einsum("ncij,ncj->nci", matrices[rows, choice], points) + shifts[rows, choice]
        # A variation may lose contraction; the bound keeps it finite without touching those that converge.
        points = np.clip(points, -50, 50)
        if step >= BURN_IN:
            drawn.append(points)
    return np.concatenate(drawn, 1)
