from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedpeft.components import ConfigError
from fedmedpeft.data.partitioners import PARTITIONERS
from fedmedpeft.data.source import ImageTable


@settings(deadline=None)
@given(classes=st.integers(1, 8), per_site=st.integers(1, 8), sites=st.integers(1, 8), seed=st.integers(0, 99))
def test_every_site_has_exactly_k_classes_and_no_class_is_lost(
    classes: int, per_site: int, sites: int, seed: int
) -> None:
    rows = 20 * classes
    table = ImageTable(tuple(str(row) for row in range(rows)), np.arange(rows) % classes, tuple("abcdefgh"[:classes]))
    partitioner = PARTITIONERS.build(f"pathological(classes_per_site={per_site})")
    if per_site > classes or sites * per_site < classes:
        with pytest.raises(ConfigError, match=f"classes_per_site={per_site}"):
            partitioner.assign(table, sites, np.random.default_rng(seed))
        return
    given_sites = partitioner.assign(table, sites, np.random.default_rng(seed)).site_of
    assert given_sites.min() >= 0
    for site in range(sites):
        assert len(set(table.labels[given_sites == site])) == per_site
    holders = [len(set(given_sites[table.labels == label])) for label in range(classes)]
    assert max(holders) - min(holders) <= 1


def test_a_class_is_dealt_evenly_to_the_sites_that_have_it(plain_source: Callable[..., Any]) -> None:
    table = plain_source(400, 4).table
    given = PARTITIONERS.build("pathological").assign(table, 4, np.random.default_rng(0))
    for label in range(4):
        assert sorted(np.bincount(given.site_of[table.labels == label], minlength=4)) == [0, 0, 50, 50]
