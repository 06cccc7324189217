from __future__ import annotations

import pytest

from fedmedpeft.training import Schedule


def test_warm_up_then_half_cosine_to_zero() -> None:
    schedule = Schedule(100, 0.1, "cosine")
    assert [schedule.factor(step) for step in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert schedule.factor(55) == pytest.approx(0.5)
    assert schedule.factor(100) == pytest.approx(0.0, abs=1e-9)


def test_constant_stays() -> None:
    assert {Schedule(10, 0.0, "constant").factor(step) for step in range(20)} == {1.0}


@pytest.mark.parametrize("total", [1, 2, 7])
def test_short_runs_have_a_step_size_everywhere(total: int) -> None:
    assert all(Schedule(total, 0.5, "cosine").factor(step) > 0 for step in range(total))
