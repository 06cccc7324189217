from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedmedpeft.data.partitioners import PARTITIONERS


def test_a_smaller_alpha_is_a_larger_difference_in_size_and_none_in_classes(plain_source: Callable[..., Any]) -> None:
    table = plain_source(1200, 3).table

    def sizes(alpha: float) -> np.ndarray:
        given = PARTITIONERS.build(f"quantity(alpha={alpha})").assign(table, 4, np.random.default_rng(1))
        largest = table.labels[given.site_of == np.bincount(given.site_of).argmax()]
        assert np.bincount(largest).min() / len(largest) > 0.25
        return np.bincount(given.site_of, minlength=4)

    assert sizes(1000).max() - sizes(1000).min() < 60
    assert sizes(0.3).max() > 3 * max(1, sizes(0.3).min())
    assert sizes(0.3).sum() == 1200
