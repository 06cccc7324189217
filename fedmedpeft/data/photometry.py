"""What a device does to an image: optics, stain, exposure, noise. For phantoms and the feature-shift partitioner."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from PIL import Image, ImageFilter
from pydantic import ConfigDict

_DECIMALS = 4


@dataclass(frozen=True)
class Photometry:
    """The signature of one device. The defaults change nothing.

    Attributes:
        gain: factor of each colour channel.
        gamma: exponent of the pixel values in 0..1; above 1 is darker.
        stain: row-major 3x3 matrix that mixes the colour channels; rows sum to 1, so grey stays grey.
        blur: standard deviation of the optics' blur, as a fraction of the image side.
        noise: standard deviation of the sensor noise, in units of full scale.
        vignette: how much darker the corners are, 0 (not at all) to 1 (black).
    """

    # Where a partition file is read, a property misspelt there must not pass for the default.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    stain: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    blur: float = 0.0
    noise: float = 0.0
    vignette: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for what no device can be: a partition file may have been written by hand."""
        numbers = (*self.gain, self.gamma, *self.stain, self.blur, self.noise, self.vignette)
        if len(self.stain) != 9 or not np.isfinite(numbers).all():
            raise ValueError("a device needs nine stain values, and finite numbers throughout")
        if min(self.gamma, *self.gain) <= 0 or min(self.blur, self.noise) < 0 or not 0 <= self.vignette <= 1:
            raise ValueError("a device needs gain and gamma above 0, blur and noise from 0 up, and a vignette in 0..1")


def draw_photometry(rng: np.random.Generator, strength: float) -> Photometry:
    """A random device; ``strength`` 0 gives the neutral one, 1 a clearly visible difference."""
    stain = np.eye(3) + 0.16 * strength * rng.standard_normal((3, 3))
    stain /= np.maximum(stain.sum(axis=1, keepdims=True), 0.2)
    gain = np.exp(0.12 * strength * rng.standard_normal(3) + 0.14 * strength * rng.standard_normal())
    return Photometry(
        gain=(_rounded(gain[0]), _rounded(gain[1]), _rounded(gain[2])),
        gamma=_rounded(np.exp(0.25 * strength * rng.standard_normal())),
        stain=tuple(_rounded(value) for value in stain.ravel()),
        blur=_rounded(0.016 * strength * rng.random()),
        noise=_rounded(0.06 * strength * rng.random()),
        vignette=_rounded(min(1.0, 0.5 * strength * rng.random())),
    )


def apply_photometry(image: Image.Image, device: Photometry, rng: np.random.Generator) -> Image.Image:
    """``image`` (RGB) as ``device`` would have recorded it; ``rng`` draws the sensor noise."""
    if device == Photometry():
        return image
    if device.blur > 0:
        image = image.filter(ImageFilter.GaussianBlur(device.blur * min(image.size)))
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    mixing = np.array(device.stain, dtype=np.float32).reshape(3, 3) * np.array(device.gain, dtype=np.float32)[:, None]
    pixels = np.clip(pixels @ mixing.T, 0.0, 1.0)
    if device.gamma != 1:
        pixels **= np.float32(device.gamma)
    if device.vignette > 0:
        pixels *= 1 - np.float32(device.vignette) * _squared_radius(*image.size)
    if device.noise > 0:
        pixels += np.float32(device.noise) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.rint(np.clip(pixels, 0.0, 1.0) * 255).astype(np.uint8))


@lru_cache(maxsize=16)
def _squared_radius(width: int, height: int) -> np.ndarray:
    """[H, W, 1]: 0 in the centre, 1 in the corners."""
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)
    return ((x[None, :] ** 2 + y[:, None] ** 2) / 2)[:, :, None]


def _rounded(value: float) -> float:
    # Four decimals survive JSON unchanged and are what a reader of a manifest can take in.
    return round(float(value), _DECIMALS)
