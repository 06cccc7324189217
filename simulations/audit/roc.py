"""How well scores tell members from non-members."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_RESOLVED = 5
"""False alarms that a rate must stand for, to be more than chance."""


def auc(scores: Floats, members: Bools) -> float:
    """Probability that a member scores higher than a non-member, ties counting half; ``nan`` where one kind is missing.

    >>> auc(np.array([0.1, 0.9, 0.5]), np.array([False, True, False]))
    1.0
    """
    inside, outside = int(members.sum()), int((~members).sum())
    if not inside or not outside:
        return float("nan")
    above = rankdata(scores)[members].sum() - inside * (inside + 1) / 2
    return float(above / (inside * outside))


def roc(scores: Floats, members: Bools) -> tuple[Floats, Floats]:
    """False and true positive rates, from 0 to 1, one point for each distinct score."""
    order = np.argsort(-scores, kind="stable")
    hits, ranked = members[order], scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    true = np.cumsum(hits)[last] / max(1, int(members.sum()))
    false = np.cumsum(~hits)[last] / max(1, int((~members).sum()))
    return np.insert(false, 0, 0.0), np.insert(true, 0, 0.0)


def hits_at(scores: Floats, members: Bools, false_rate: float) -> float:
    """The highest rate of members found with at most so many false alarms; ``nan`` where there are too few non-members
    for such a rate."""
    if false_rate * int((~members).sum()) < _RESOLVED:
        return float("nan")
    false, true = roc(scores, members)
    return float(true[false <= false_rate + 1e-12].max())


def most_hits(false_rate: float, epsilon: float, delta: float) -> float:
    """What no attack on (epsilon, delta)-private training can exceed (Kairouz, Oh, Viswanath, ICML 2015).

    >>> most_hits(0.01, 0.0, 0.0)
    0.01
    """
    by_false = np.exp(min(epsilon, 700.0)) * false_rate + delta
    by_true = 1 - np.exp(-epsilon) * (1 - delta - false_rate)
    return float(min(1.0, by_false, by_true))
