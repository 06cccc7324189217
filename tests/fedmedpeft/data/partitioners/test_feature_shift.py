from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedmedpeft.data.partitioners import PARTITIONERS
from fedmedpeft.data.photometry import Photometry


def test_every_site_has_a_device_of_its_own(plain_source: Callable[..., Any]) -> None:
    table = plain_source(60, 3).table
    given = PARTITIONERS.build("feature-shift").assign(table, 4, np.random.default_rng(0))
    assert given.shifts is not None
    assert len(set(given.shifts)) == 4
    assert np.bincount(given.site_of).tolist() == [15] * 4


def test_no_strength_is_iid(plain_source: Callable[..., Any]) -> None:
    table = plain_source(60, 3).table
    given = PARTITIONERS.build("feature-shift(strength=0)").assign(table, 4, np.random.default_rng(0))
    iid = PARTITIONERS.build("iid").assign(table, 4, np.random.default_rng(0))
    assert given.shifts == (Photometry(),) * 4
    assert np.array_equal(given.site_of, iid.site_of)
