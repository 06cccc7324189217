"""The choice of the learning rate. It is given validation figures and nothing else, so test figures cannot enter it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path


def choose(validation: Mapping[float, float]) -> float | None:
    """The scale with the highest validation score; the smaller of two that are equal.

    Args:
        validation: mean over sites of the final state's validation metric, by scale; ``nan`` where the run failed or
            has no score.

    Returns:
        The scale; None where no run has a score.

    >>> choose({0.3: 0.7, 1.0: 0.8, 3.0: 0.8})
    1.0
    """
    scored = {scale: score for scale, score in validation.items() if math.isfinite(score)}
    return max(scored, key=lambda scale: (scored[scale], -scale)) if scored else None


def final_validation(run: Path, metric: str) -> tuple[float, float]:
    """Mean over sites, and worst site, of a validation metric after the last round: from ``rounds.csv``, which has no
    test figures. ``nan`` where there is none.
    """
    try:
        with (run / "rounds.csv").open(encoding="utf-8", newline="") as file:
            last = list(csv.DictReader(file))[-1]
        return _number(last[f"val_{metric}"]), _number(last[f"worst_val_{metric}"])
    except (OSError, IndexError, KeyError, ValueError):
        return math.nan, math.nan


def _number(cell: str) -> float:
    return float(cell) if cell else math.nan
