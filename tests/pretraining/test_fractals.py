from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pretraining.fractals import FractalFormula


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_singular_values_lie_in_the_band_of_well_formed_attractors(seed: int) -> None:
    formula = FractalFormula.draw(np.random.default_rng(seed))
    values = np.linalg.svd(formula.matrices, compute_uv=False)
    weighted = (values[:, 0] + 2 * values[:, 1]).sum()
    maps = len(formula.shifts)

    assert values.max() < 1  # every map contracts
    assert 0.5 * (5 + maps) - 1e-9 <= weighted <= 0.5 * (6 + maps) + 1e-9


def test_sierpinski_triangle_has_its_holes() -> None:
    """Three half-size copies at the corners: the middle triangle stays empty, the corners are drawn."""
    corners = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
    formula = FractalFormula(np.stack([np.eye(2) / 2] * 3), corners)
    cover = formula.render(4, 64, np.random.default_rng(0))[:, 0].mean(0)

    assert cover[8:24, 8:24].mean() > 0.3
    assert cover[36:40, 36:40].max() < 0.3  # just beyond the hypotenuse' middle lies the empty half of the square
    assert cover[48:, 48:].max() == 0
