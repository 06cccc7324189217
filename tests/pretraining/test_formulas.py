from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretraining.formulas import FAMILIES, draw_formula, render_category, render_corpus


@settings(max_examples=25, deadline=None)
@given(index=st.integers(0, 10_000), seed=st.integers(0, 2**31), size=st.sampled_from([16, 24, 32]))
def test_a_rendering_is_finite_in_range_and_not_blank(index: int, seed: int, size: int) -> None:
    maps = draw_formula(index, seed).render(3, size, np.random.default_rng(seed))

    assert maps.shape == (3, 2, size, size)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps.min() > -1e-5
    assert maps.max() < 1 + 1e-5
    covered = maps[:, 0].mean((1, 2))
    assert (covered > 0.005).all()
    # The product is what a picture shows besides the outline: no family may leave all of it constant.
    assert (maps.prod(1).std((1, 2)) + maps[:, 0].std((1, 2)) > 1e-4).all()


@pytest.mark.parametrize("index", range(len(FAMILIES)), ids=list(FAMILIES))
def test_the_same_seed_renders_the_same_bytes_and_another_seed_does_not(index: int) -> None:
    first, again, other = (render_category(index, 2, 32, seed) for seed in (3, 3, 4))

    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.01


@pytest.mark.parametrize("index", range(len(FAMILIES)), ids=list(FAMILIES))
def test_renderings_of_one_formula_vary(index: int) -> None:
    maps = render_category(index, 6, 32, seed=0).reshape(6, -1)

    assert len(np.unique(maps, axis=0)) == 6


@pytest.mark.parametrize("family", range(2), ids=["fractal", "contour"])
def test_renderings_resemble_their_own_formula_more_than_another(family: int) -> None:
    """Nearest class mean on plain pixels; for cells and textures, whose places are free, pixels say nothing."""
    formulas, count = 8, 12
    maps = np.stack([render_category(family + 4 * i, count, 32, seed=5) for i in range(formulas)])
    flat = maps.reshape(formulas, count, -1).astype(np.float64)
    means, tested = flat[:, : count // 2].mean(1), flat[:, count // 2 :]
    nearest = ((tested[:, :, None] - means) ** 2).sum(-1).argmin(-1)

    assert (nearest == np.arange(formulas)[:, None]).mean() > 0.7


def test_textures_differ_in_their_spectra() -> None:
    """Nearest class mean on the log energy in octaves and orientations, which is what a texture's formula sets."""
    maps = np.stack([render_category(3 + 4 * i, 12, 32, seed=5)[:, 1] for i in range(8)]) / 255.0
    spectra = np.log(np.abs(np.fft.rfft2(maps)) + 1e-2)[..., 1:, 1:].reshape(8, 12, -1)
    means, tested = spectra[:, :6].mean(1), spectra[:, 6:]
    nearest = ((tested[:, :, None] - means) ** 2).sum(-1).argmin(-1)

    assert (nearest == np.arange(8)[:, None]).mean() > 0.7


def test_the_corpus_lines_up_with_its_labels_and_alternates_families() -> None:
    maps, labels = render_corpus(categories=5, count=3, size=16, seed=1)

    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    np.testing.assert_array_equal(maps[6:9], render_category(2, 3, 16, seed=1))
    assert [type(draw_formula(i, 1)) for i in range(4)] != [type(draw_formula(0, 1))] * 4
    assert type(draw_formula(0, 1)) is type(draw_formula(4, 1))
