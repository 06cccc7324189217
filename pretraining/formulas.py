"""Formulas: each one is a category, each rendering of it an image to classify (formula-driven supervision).

The idea is that of FractalDB (Kataoka et al., ACCV 2020, arXiv 2101.08515) and of its successors ExFractalDB and RCDB
(Kataoka et al., CVPR 2022, arXiv 2206.09132): the label is the parameter set that made the image, so a label costs
nothing and no patient, photographer or licence stands behind any pixel.

A rendering is two maps in [0, 1]: ``cover``, where the object is, and ``tone``, what its inside looks like. Colour is
left to :mod:`pretraining.colouring`, which draws it anew each time an image is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pretraining.cells import CellFormula
from pretraining.contours import ContourFormula
from pretraining.fractals import FractalFormula
from pretraining.textures import TextureFormula


class Formula(Protocol):
    """One category."""

    def render(self, count: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """``count`` variations of the formula: (count, 2, size, size), cover and tone in [0, 1]."""


FAMILIES: dict[str, Callable[[np.random.Generator], Formula]] = {
    "fractal": FractalFormula.draw,
    "contour": ContourFormula.draw,
    "cell": CellFormula.draw,
    "texture": TextureFormula.draw,
}


def draw_formula(index: int, seed: int) -> Formula:
    """Category ``index`` of the world ``seed``; families take turns, so any prefix of the indices is balanced."""
    family = list(FAMILIES)[index % len(FAMILIES)]
    return FAMILIES[family](np.random.default_rng([seed, index]))


def render_category(index: int, count: int, size: int, seed: int) -> npt.NDArray[np.uint8]:
    """``count`` renderings of one category as bytes, (count, 2, size, size); the same for the same arguments."""
    rng = np.random.default_rng([seed, index, 1])
    maps = draw_formula(index, seed).render(count, size, rng)
    return np.round(np.clip(maps, 0.0, 1.0) * 255).astype(np.uint8)


def render_corpus(
    categories: int, count: int, size: int, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """All categories: maps (categories * count, 2, size, size) and their labels (categories * count,)."""
    maps = np.empty((categories * count, 2, size, size), np.uint8)
    for index in range(categories):
        maps[index * count : (index + 1) * count] = render_category(index, count, size, seed)
    return maps, np.repeat(np.arange(categories), count)
