from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedmedpeft.data.partitioners import PARTITIONERS


def skew(table: Any, alpha: float) -> float:
    """Largest share of one class in a site, averaged over sites and seeds: 1 for one class, 1/3 for three alike."""
    shares = []
    for seed in range(5):
        given = PARTITIONERS.build(f"dirichlet(alpha={alpha})").assign(table, 4, np.random.default_rng(seed))
        for site in range(4):
            counts = np.bincount(table.labels[given.site_of == site], minlength=3)
            shares += [counts.max() / counts.sum()] if counts.sum() else []
    return float(np.mean(shares))


def test_a_smaller_alpha_is_a_stronger_label_skew(plain_source: Callable[..., Any]) -> None:
    table = plain_source(600, 3).table
    assert skew(table, 1000) < 0.37
    assert 0.45 < skew(table, 1) < 0.75
    assert skew(table, 0.05) > 0.8


def test_every_row_has_a_site(plain_source: Callable[..., Any]) -> None:
    given = PARTITIONERS.build("dirichlet(alpha=0.01)").assign(plain_source(50, 3).table, 9, np.random.default_rng(0))
    assert given.site_of.min() >= 0
    assert given.site_of.max() < 9
