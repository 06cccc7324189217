from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedpeft.data.partitioners.base import PARTITIONERS, deal


@settings(deadline=None)
@given(
    members=st.lists(st.integers(0, 99), unique=True, max_size=100),
    weights=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=9).filter(lambda weights: sum(weights) > 1e-6),
)
def test_dealing_gives_every_unit_once_in_proportion_to_the_shares(members: list[int], weights: list[float]) -> None:
    site_of_unit = np.full(100, -1)
    shares = np.array(weights) / sum(weights)
    deal(np.array(members, dtype=np.int64), shares, site_of_unit, range(len(shares)))
    assert sorted(np.flatnonzero(site_of_unit >= 0)) == sorted(members)
    sizes = np.bincount(site_of_unit[members] if members else np.array([], dtype=int), minlength=len(shares))
    assert np.abs(sizes - shares * len(members)).max() <= 1.001


@pytest.mark.parametrize("name", PARTITIONERS.names())
def test_every_partitioner_documents_itself_with_a_working_example(name: str) -> None:
    text = PARTITIONERS.factory(name).__doc__ or ""
    example = text.split("Example: ``")[1].split("``")[0]
    assert example.startswith(name)
    assert PARTITIONERS.build(example).remedy
    fields = PARTITIONERS.options_type(name).model_fields
    assert all(field.description for field in fields.values())
