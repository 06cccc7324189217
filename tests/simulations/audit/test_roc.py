from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from simulations.audit.roc import auc, hits_at, most_hits, roc


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_area_as_scikit_learn_has_it(pairs: list[tuple[int, bool]]) -> None:
    scores, members = np.array([float(s) for s, _ in pairs]), np.array([m for _, m in pairs])
    if members.all() or not members.any():
        assert math.isnan(auc(scores, members))
        return
    assert auc(scores, members) == pytest.approx(roc_auc_score(members, scores))
    false, true = roc(scores, members)
    assert np.trapezoid(true, false) == pytest.approx(auc(scores, members))


def test_found_at_few_false_alarms() -> None:
    """Of 1,000 non-members 10 score above the upper half of the members."""
    scores = np.concatenate([np.full(50, 3.0), np.full(50, 1.0), np.full(10, 4.0), np.zeros(990)])
    members = np.arange(1100) < 100
    assert hits_at(scores, members, 0.01) == 1.0
    assert hits_at(scores, members, 0.009) == 0.0


def test_too_few_non_members_for_such_a_rate() -> None:
    members = np.arange(200) < 100
    assert math.isnan(hits_at(np.arange(200.0), members, 0.01))
    assert not math.isnan(hits_at(np.arange(200.0), members, 0.05))


def test_privacy_bounds_every_attack() -> None:
    assert most_hits(0.01, 0.0, 0.0) == pytest.approx(0.01)
    assert most_hits(0.01, 1.0, 1e-3) == pytest.approx(math.e * 0.01 + 1e-3)
    assert most_hits(0.5, 1.0, 0.0) == pytest.approx(1 - 0.5 / math.e)
    assert most_hits(0.01, 1e4, 0.0) == 1.0
