"""Radial contours: nested closed curves around a centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

HARMONICS = 9


@dataclass(frozen=True)
class ContourFormula:
    """r(angle) = 1 + sum_k a_k cos(k angle + p_k), repeated inwards ``rings`` times.

    After the Radial Contour DataBase (Kataoka et al., CVPR 2022, arXiv 2206.09132), whose polygons are replaced by
    Fourier series: they need no rasteriser, and lobes and spikes come out of the same formula.
    """

    amplitudes: Floats  # (HARMONICS,)
    phases: Floats  # (HARMONICS,)
    rings: int
    width: float  # share of a ring's pitch that the line takes
    aspect: float
    twist: float  # radians by which the innermost ring is turned
    filled: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> ContourFormula:
        order = np.arange(1, HARMONICS + 1)
        # A sparse series: two or three harmonics make a shape that can be told from another's.
        kept = rng.permutation(HARMONICS)[: rng.integers(2, 4)]
        mask = np.isin(order - 1, kept)
        return cls(
            amplitudes=np.where(mask, rng.uniform(0.08, 0.3, HARMONICS) * (order > 1), 0.0),
            phases=rng.uniform(0, 2 * np.pi, HARMONICS),
            rings=int(rng.integers(1, 6)),
            width=float(rng.uniform(0.2, 0.7)),
            aspect=float(rng.uniform(0.6, 1.0)),
            twist=float(rng.uniform(-1.0, 1.0)),
            filled=bool(rng.random() < 0.4),
        )

    def render(self, count: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """See :class:`pretraining.formulas.Formula`; variations move harmonics, aspect, scale and centre a little."""
        axis = np.linspace(-1.5, 1.5, size)
        scale = rng.uniform(0.85, 1.1, (count, 1, 1))
        centre = rng.normal(0, 0.06, (2, count, 1, 1))
        x = (axis[None, None, :] - centre[0]) / scale
        y = (axis[None, :, None] - centre[1]) / (scale * self.aspect * rng.uniform(0.92, 1.08, (count, 1, 1)))
        distance = np.hypot(x, y)
        angle = np.arctan2(y, x) + self.twist * (1 - np.minimum(distance, 1))
        radius = np.ones_like(distance)
        for order in np.flatnonzero(self.amplitudes):
            amplitude = self.amplitudes[order] * rng.uniform(0.8, 1.2, (count, 1, 1))
            phase = self.phases[order] + rng.normal(0, 0.15, (count, 1, 1))
            radius += amplitude * np.cos((order + 1) * angle + phase)
        level = distance / np.maximum(radius, 0.15)
        return self._shade(level, size)

    def _shade(self, level: Floats, size: int) -> npt.NDArray[np.float32]:
        """Cover and tone from the level, which is 0 at the centre and 1 on the outermost curve."""
        softness = 3.0 / size
        inside = 1 / (1 + np.exp(np.clip((level - 1) / softness * 2, -30, 30)))
        # Distance, in pitches, to the nearest ring.
        to_ring = np.abs((level * self.rings + 0.5) % 1.0 - 0.5)
        line = 1 / (1 + np.exp(np.clip((to_ring - self.width / 2) / (softness * self.rings) * 2, -30, 30)))
        line = line * (level < 1 + 0.5 / self.rings) * (level > 0.5 / self.rings)
        cover = np.maximum(inside, line) if self.filled else line
        tone = line if self.filled else np.clip(level, 0, 1)
        return np.stack([cover, tone], 1).astype(np.float32)
