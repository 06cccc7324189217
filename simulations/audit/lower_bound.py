"""From right guesses about canaries to a lower bound on epsilon, out of one training.

Steinke, Nasr, Jagielski: Privacy Auditing with One (1) Training Run, NeurIPS 2023 (arXiv:2305.08846), Theorem 5.2. Each
of m canaries was put in by a fair coin of its own; an attacker then says for some of them whether they were in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, expit

CONFIDENCE = 0.95
_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the canaries, how many the attacker guesses: a strong attack gains by guessing all, a weak one by its surest."""
_HIGHEST = 64.0
_HALVINGS = 30


@dataclass(frozen=True)
class Bound:
    """What one attack shows.

    Attributes:
        epsilon: with ``CONFIDENCE`` the training is not (epsilon', delta)-private for any smaller epsilon'.
        canaries: how many there were. guesses: of those about which the attacker said something.
        correct: of the guesses, how many were right.
        ceiling: what ``epsilon`` would be, had every guess been right: this audit can show no more.
    """

    epsilon: float
    canaries: int
    guesses: int
    correct: int
    ceiling: float


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """An upper bound on the probability of so many right guesses, were the training (epsilon, delta)-private.

    With W ~ Binomial(guesses, e^epsilon / (1 + e^epsilon)) it is P[W >= v] + 2 m delta max_i P[v - i <= W < v] / i.

    Raises:
        ValueError: not 0 <= correct <= guesses <= canaries, or epsilon below 0, or delta not within 0 and 1.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} of {guesses} guesses about {canaries} canaries cannot be right.")
    if epsilon < 0 or not 0 <= delta <= 1:
        raise ValueError(f"epsilon={epsilon} must be at least 0, and delta={delta} within 0 and 1.")
    accuracy = float(expit(epsilon))
    tail = float(bdtrc(correct - 1, guesses, accuracy))
    if not correct or not delta:
        return min(1.0, tail)
    widths = np.arange(1, correct + 1)
    slack = float(((bdtrc(correct - 1 - widths, guesses, accuracy) - tail) / widths).max())
    return min(1.0, tail + 2 * canaries * delta * slack)


def epsilon_of(canaries: int, guesses: int, correct: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """The largest epsilon that so many right guesses rule out; 0.0 where they rule out none.

    >>> round(epsilon_of(1000, 100, 75, 1e-4), 3)  # the paper's own example, Appendix D
    0.673
    """
    low, high = 0.0, 1.0
    if p_value(canaries, guesses, correct, low, delta) >= 1 - confidence:
        return 0.0
    while high < _HIGHEST and p_value(canaries, guesses, correct, high, delta) < 1 - confidence:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if p_value(canaries, guesses, correct, middle, delta) < 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def bound(
    scores: NDArray[np.floating], included: NDArray[np.bool_], delta: float, confidence: float = CONFIDENCE
) -> Bound:
    """The best bound over a few numbers of guesses, each tested with its share of the error (Bonferroni).

    Args:
        scores: [m], higher where the attacker rather thinks that the canary was in. The k / 2 highest are guessed in,
            the k / 2 lowest out; of equal ones the first come first.
        included: [m], what is true.
    """
    order, canaries = np.argsort(scores, kind="stable"), len(scores)
    sizes = guess_sizes(canaries)
    each = 1 - (1 - confidence) / max(1, len(sizes))
    found = [Bound(0.0, canaries, 0, 0, 0.0)]
    for size in sizes:
        out, in_ = order[: size // 2], order[canaries - size // 2 :]
        correct = int(included[in_].sum() + (~included[out]).sum())
        epsilon = epsilon_of(canaries, size, correct, delta, each)
        found.append(Bound(epsilon, canaries, size, correct, 0.0))
    ceiling = max((epsilon_of(canaries, size, size, delta, each) for size in sizes), default=0.0)
    best = max(found, key=lambda one: (one.epsilon, one.guesses))
    return Bound(best.epsilon, canaries, best.guesses, best.correct, ceiling)


def guess_sizes(canaries: int) -> Sequence[int]:
    """Numbers of guesses that are tried, fixed before anything is seen: even, and at least 2."""
    sizes = {2 * int(share * canaries / 2) for share in _SHARES}
    return sorted(size for size in sizes if size >= 2)
