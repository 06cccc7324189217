"""Membership scores from shadow models (Carlini et al., Membership Inference Attacks From First Principles, S&P 2022).

K models were each trained on a random half of the units. Each is the target once, with the others as its shadows.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

Scores = NDArray[np.float64]
Members = NDArray[np.bool_]
Variant = Literal["online", "offline", "loss"]

_OWN_VARIANCE = 64
"""Shadows from which on each unit has variances of its own: with fewer all share one (section VI of the paper)."""
_SMALLEST = 1e-30


def logit_confidence(losses: Scores) -> Scores:
    """log(p / (1 - p)) of p = exp(-loss), for losses of at least 0: nearly normal over shadow models (section V-B).

    >>> [round(float(value), 3) for value in logit_confidence(np.array([np.log(2), np.log(4)]))]
    [0.0, -1.099]
    """
    kept = np.maximum(losses, 1e-12)
    result: Scores = -kept - np.log(-np.expm1(-kept))
    return result


def membership_scores(confidence: Scores, members: Members, variant: Variant) -> Scores:
    """How much rather each unit was in each model's training than not, [K, U]; 0 where the shadows cannot tell.

    Args:
        confidence: [K, U], of each model in each unit.
        members: [K, U], what each model was trained on.
        variant: ``online``: the likelihood ratio of in against out. ``offline``: by shadows without the unit alone, as
            an attacker who met the unit after training them. ``loss``: the confidence itself, for which no shadow is
            needed (Yeom et al., CSF 2018).
    """
    if variant == "loss":
        return confidence
    scores = np.zeros_like(confidence)
    for target in range(len(confidence)):
        others = np.arange(len(confidence)) != target
        scores[target] = _against(confidence[target], confidence[others], members[others], variant)
    return scores


def _against(target: Scores, shadows: Scores, members: Members, variant: Variant) -> Scores:
    """Scores [U] of one target."""
    mean_out, variance_out, enough = _moments(shadows, ~members)
    if variant == "offline":
        # -log P[a model without it is as confident]: the further above what those say, the surer.
        return np.where(enough, -log_ndtr((mean_out - target) / np.sqrt(variance_out)), 0.0)
    mean_in, variance_in, enough_in = _moments(shadows, members)
    ratio = _log_density(target, mean_in, variance_in) - _log_density(target, mean_out, variance_out)
    return np.where(enough & enough_in, ratio, 0.0)


def _moments(shadows: Scores, chosen: Members) -> tuple[Scores, Scores, Members]:
    """Mean and variance [U] over the chosen shadows of each unit, and where they are enough to have them."""
    count = chosen.sum(0)
    enough = count > 0
    mean = np.where(chosen, shadows, 0).sum(0) / np.maximum(count, 1)
    squares = np.where(chosen, (shadows - mean) ** 2, 0).sum(0)
    if len(shadows) >= _OWN_VARIANCE - 1:
        variance = squares / np.maximum(count - 1, 1)
        enough = count > 1
    else:
        free = (count - 1)[enough].sum()
        variance = np.full(mean.shape, squares[enough].sum() / max(free, 1))
    return mean, np.maximum(variance, _SMALLEST), enough


def _log_density(value: Scores, mean: Scores, variance: Scores) -> Scores:
    result: Scores = -0.5 * ((value - mean) ** 2 / variance + np.log(variance))
    return result
