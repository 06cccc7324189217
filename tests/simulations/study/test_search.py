from __future__ import annotations

import inspect
import math
from pathlib import Path

import pytest

from simulations.study import search
from simulations.study.search import choose, final_validation


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({0.3: 0.7, 1.0: 0.9, 3.0: 0.8}, 1.0),
        ({3.0: 0.8, 0.3: 0.8, 1.0: 0.8}, 0.3),
        ({0.3: math.nan, 1.0: 0.1}, 1.0),
        ({0.3: math.nan}, None),
        ({}, None),
    ],
)
def test_choose(scores: dict[float, float], chosen: float | None) -> None:
    assert choose(scores) == chosen


def test_test_figures_have_no_way_into_the_choice(tmp_path: Path) -> None:
    """The score is read where no test figure is: a run without summary and sites gives the same."""
    (tmp_path / "rounds.csv").write_text(
        "round,val_balanced_accuracy,worst_val_balanced_accuracy\n0,0.2,0.1\n1,0.9,0.8\n2,0.5,0.25\n"
    )
    assert final_validation(tmp_path, "balanced_accuracy") == (0.5, 0.25)
    (tmp_path / "summary.json").write_text('{"results": {"federated": {"mean": 0.99}}}')
    assert final_validation(tmp_path, "balanced_accuracy") == (0.5, 0.25)
    assert "summary" not in inspect.getsource(search)


@pytest.mark.parametrize("content", ["", "round,val_balanced_accuracy\n", "round,val_balanced_accuracy\n1,\n"])
def test_a_run_without_a_score_has_nan(tmp_path: Path, content: str) -> None:
    (tmp_path / "rounds.csv").write_text(content)
    assert math.isnan(final_validation(tmp_path, "balanced_accuracy")[0])
    assert math.isnan(final_validation(tmp_path / "none", "balanced_accuracy")[0])
