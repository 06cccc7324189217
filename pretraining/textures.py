"""Textures: noise with a given spectrum, from clouds over speckle to gratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TextureFormula:
    """Gaussian noise whose spectrum falls as f^-slope, with a band of frequencies and a direction, then bent.

    Tissue, lung fields and ultrasound speckle have much of their look in the second-order statistics that these
    parameters set (Baradad et al., "Learning to See by Looking at Noise", NeurIPS 2021, arXiv 2106.05963).
    """

    slope: float
    centre: float  # the band's middle, cycles per image
    bandwidth: float  # in octaves
    band: float  # weight of the band against the slope
    direction: float  # radians
    focus: float  # 0: all directions alike; large: a grating
    bend: str  # "plain", "ridges", "islands" or "sparks"

    @classmethod
    def draw(cls, rng: np.random.Generator) -> TextureFormula:
        return cls(
            slope=float(rng.uniform(0.6, 3.0)),
            centre=float(2 ** rng.uniform(1.0, 3.8)),
            bandwidth=float(rng.uniform(0.15, 0.8)),
            band=float(rng.choice([0.0, 1.0, 4.0])),
            direction=float(rng.uniform(0, np.pi)),
            focus=float(rng.choice([0.0, 0.0, 2.0, 8.0])),
            bend=str(rng.choice(["plain", "ridges", "islands", "sparks"])),
        )

    def render(self, count: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """See :class:`pretraining.formulas.Formula`; variations are other noise, a texture covers the whole image."""
        noise = np.fft.rfft2(rng.normal(size=(count, size, size)))
        field = np.fft.irfft2(noise * self._amplitude(size), s=(size, size))
        field /= field.std((1, 2), keepdims=True) + 1e-9
        return np.stack([np.ones_like(field), self._bent(field)], 1).astype(np.float32)

    def _amplitude(self, size: int) -> Floats:
        """The filter, (size, size // 2 + 1)."""
        fy = np.fft.fftfreq(size, 1 / size)[:, None]
        fx = np.fft.rfftfreq(size, 1 / size)[None, :]
        frequency = np.maximum(np.hypot(fx, fy), 0.5)
        falling = frequency**-self.slope
        bump = np.exp(-0.5 * (np.log2(frequency / self.centre) / self.bandwidth) ** 2) / frequency
        directed = np.exp(self.focus * (np.cos(2 * (np.arctan2(fy, fx) - self.direction)) - 1))
        # Both parts are brought to unit power first, so that the weight alone decides which one is seen.
        total = falling / np.linalg.norm(falling) + self.band * bump / np.linalg.norm(bump)
        return np.asarray(total * directed * (np.hypot(fx, fy) > 0))

    def _bent(self, field: Floats) -> Floats:
        """A point-wise curve that turns Gaussian noise into veins, patches or speckle; all end in [0, 1]."""
        if self.bend == "ridges":
            return np.asarray(np.exp(-2.5 * np.abs(field)))
        if self.bend == "islands":
            return np.asarray(1 / (1 + np.exp(np.clip(-6 * (field - 0.4), -30, 30))))
        if self.bend == "sparks":
            return np.asarray(np.clip(np.exp(field - 2), 0, 1))
        return np.asarray(np.clip(0.5 + 0.22 * field, 0, 1))
