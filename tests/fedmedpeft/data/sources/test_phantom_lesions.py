from __future__ import annotations

import numpy as np
import pytest

from fedmedpeft.data.sources.phantom_lesions import KINDS, render


def drawn(kind: str, seed: int, size: int = 64, zoom: float = 1.0) -> np.ndarray:
    streams = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    return np.asarray(render(kind, size, zoom, rng=streams[0], tissue=streams[1])).astype(float)


def average(kind: str, measure: object) -> float:
    assert callable(measure)
    return float(np.mean([measure(drawn(kind, seed).mean(axis=2)) for seed in range(40)]))


def centre_against_rim(grey: np.ndarray) -> float:
    return float(grey[26:38, 26:38].mean() - np.concatenate([grey[:6].ravel(), grey[-6:].ravel()]).mean())


def edges(grey: np.ndarray) -> float:
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def test_a_lesion_is_darker_than_its_tissue_and_clear_tissue_has_none() -> None:
    assert average("smooth", centre_against_rim) < -20
    assert abs(average("clear", centre_against_rim)) < 5


def test_a_ring_is_lighter_in_the_middle_than_a_disc() -> None:
    assert average("annular", centre_against_rim) > average("smooth", centre_against_rim) + 8


def reach(grey: np.ndarray) -> float:
    """How far from their common centre the dark pixels lie, as a fraction of the side."""
    darkness = np.maximum(0.0, np.median(grey) - 20 - grey)
    weight = darkness / max(darkness.sum(), 1e-9)
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]] / grey.shape[0]
    return float(np.sqrt((weight * ((x - (weight * x).sum()) ** 2 + (y - (weight * y).sum()) ** 2)).sum()))


def test_rough_margins_and_lumps_have_more_edges_than_a_smooth_lesion() -> None:
    for kind in ("spiculated", "mottled"):
        assert average(kind, edges) > 1.1 * average("smooth", edges)


def test_several_lesions_reach_further_than_one() -> None:
    assert average("multifocal", reach) > 1.2 * average("smooth", reach)


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_is_the_same_for_the_same_streams(kind: str) -> None:
    assert np.array_equal(drawn(kind, 1), drawn(kind, 1))
    assert not np.array_equal(drawn(kind, 1), drawn(kind, 2))
    assert not np.array_equal(drawn(kind, 1), drawn(kind, 1, zoom=1.3)) or kind == "clear"


def test_any_size_can_be_drawn() -> None:
    assert drawn("mottled", 0, size=33).shape == (33, 33, 3)
