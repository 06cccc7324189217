from __future__ import annotations

import dataclasses

import numpy as np

from pretraining.contours import HARMONICS, ContourFormula

CIRCLE = ContourFormula(
    amplitudes=np.zeros(HARMONICS),
    phases=np.zeros(HARMONICS),
    rings=1,
    width=0.3,
    aspect=1.0,
    twist=0.0,
    filled=False,
)


def _crossings(formula: ContourFormula) -> int:
    """How often the ray from the centre to the right edge enters a line."""
    cover = formula.render(1, 128, np.random.default_rng(0))[0, 0]
    ray = cover[64, 64:] > 0.5
    return int(ray[0]) + int((ray[1:] & ~ray[:-1]).sum())


def test_a_series_without_harmonics_is_a_circle() -> None:
    cover = CIRCLE.render(1, 64, np.random.default_rng(0))[0, 0]
    drawn = np.argwhere(cover > 0.5)
    radius = np.hypot(*(drawn - (drawn.max(0) + drawn.min(0)) / 2).T)

    assert cover[32, 32] < 0.1  # a line, not a disc
    assert radius.std() / radius.mean() < 0.15


def test_rings_are_as_many_as_the_formula_says() -> None:
    for rings in (1, 2, 4):
        assert _crossings(dataclasses.replace(CIRCLE, rings=rings)) == rings


def test_a_filled_contour_covers_its_inside() -> None:
    cover = dataclasses.replace(CIRCLE, filled=True).render(1, 64, np.random.default_rng(0))[0, 0]

    assert cover[32, 32] > 0.9
    assert cover[0, 0] < 0.1


def test_a_harmonic_of_order_k_makes_k_lobes() -> None:
    amplitudes = np.zeros(HARMONICS)
    amplitudes[4] = 0.3  # order 5
    formula = dataclasses.replace(CIRCLE, amplitudes=amplitudes, filled=True)
    cover = formula.render(1, 128, np.random.default_rng(3))[0, 0]
    inside = np.argwhere(cover > 0.5)
    y, x = (inside - inside.mean(0)).T
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    directions = np.linspace(0, 2 * np.pi, 60)[:-1]
    extent = np.array([radius[np.abs(np.angle(np.exp(1j * (angle - a)))) < 0.1].max() for a in directions])

    assert np.abs(np.fft.rfft(extent - extent.mean())).argmax() == 5
