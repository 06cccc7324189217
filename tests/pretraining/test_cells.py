from __future__ import annotations

import dataclasses

import numpy as np

from pretraining.cells import CellFormula

PLAIN = CellFormula(
    cells=1, body=0.6, roughness=0.0, nucleus=0.4, lobes=1, spread=0.5, granules=0, grain=0.05, membrane=0.0
)


def _maps(formula: CellFormula) -> np.ndarray:
    return formula.render(8, 64, np.random.default_rng(0))


def test_a_body_has_the_area_of_its_radius() -> None:
    covered = _maps(PLAIN)[:, 0].mean((1, 2))

    # Radius 0.6 +- 12 % of a half side of 1: pi r^2 / 4 of the image.
    assert (covered > np.pi * 0.52**2 / 4).all()
    assert (covered < np.pi * 0.70**2 / 4).all()


def test_the_nucleus_lies_inside_the_body_and_grows_with_its_share() -> None:
    small, large = _maps(PLAIN), _maps(dataclasses.replace(PLAIN, nucleus=0.8))

    assert (small[:, 1] <= small[:, 0] + 1e-6).all()
    assert large[:, 1].mean() > 2 * small[:, 1].mean()


def test_granules_and_membrane_show_in_the_tone_only() -> None:
    for change in ({"granules": 30}, {"membrane": 0.5}):
        changed = _maps(dataclasses.replace(PLAIN, **change))
        assert changed[:, 1].mean() > _maps(PLAIN)[:, 1].mean() * 1.1
        assert abs(changed[:, 0].mean() - _maps(PLAIN)[:, 0].mean()) < 0.1


def test_more_cells_cover_more() -> None:
    one, four = (_maps(dataclasses.replace(PLAIN, cells=cells, body=0.3))[:, 0].mean() for cells in (1, 4))

    assert four > 1.5 * one
