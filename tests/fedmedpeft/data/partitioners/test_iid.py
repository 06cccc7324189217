from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedmedpeft.data.partitioners import PARTITIONERS


def test_sites_have_the_same_size_to_one_image_and_rows_are_shuffled(plain_source: Callable[..., Any]) -> None:
    given = PARTITIONERS.build("iid").assign(plain_source(101, 3).table, 4, np.random.default_rng(0))
    assert sorted(np.bincount(given.site_of)) == [25, 25, 25, 26]
    assert given.sites == ("site-0", "site-1", "site-2", "site-3")
    assert given.shifts is None
    assert (np.diff(given.site_of) < 0).any()


def test_every_site_has_about_the_classes_of_the_whole(plain_source: Callable[..., Any]) -> None:
    table = plain_source(900, 3).table
    given = PARTITIONERS.build("iid").assign(table, 3, np.random.default_rng(0))
    for site in range(3):
        assert np.abs(np.bincount(table.labels[given.site_of == site]) - 100).max() < 30
