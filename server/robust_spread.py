"""Is a site's update of another size than is usual in its run?

Training moves all sites of a round by about as much: they take as many steps, and AdamW's steps are as long whatever
the gradient, noised or not. Where most sites have learnt all there is, theirs become short, and one with harder data,
or with the noise of differential privacy, goes on as before. So the usual size is that of the longest round so far: of
1,444 updates in 35 measured runs (sites of 2 to 510 images, skewed labels, rotation, FedProx, FedAdam, differential
privacy at all sites or at two) none was more than 1.5 times as long. Whoever wants to move the mean alone must be.

The size is all that is judged. An update of the usual size in the wrong direction passes: against these, choose a
strategy that bounds what one site can do (``median``, ``trimmed-mean``, ``krum``).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from statistics import median

FEWEST = 4
"""Updates below which nothing is said: of three, two outliers are the majority."""
_NORMAL = 1.4826
"""Scales a median of absolute deviations to a standard deviation, where values are normally distributed."""
_FLOOR = 0.375
"""Smallest spread, of logarithms: where sites are nearly alike, one that is a little less so is no outlier."""
_FARTHEST_BELOW = 1e-5
"""Of the round's median: training moves even a site that has nothing more to learn further than that."""


def usual(lengths: Collection[float], before: float = 0.0) -> float:
    """Median of a round, or the largest of earlier rounds where that is larger; of too few updates the latter.

    Args:
        lengths: Euclidean norms of updates of the same tensors.
        before: what this function gave for earlier rounds.
    """
    return max(before, median(lengths)) if len(lengths) >= FEWEST else before


def outliers(lengths: Mapping[str, float], spread: float, before: float = 0.0) -> dict[str, str]:
    """Sites whose update is far longer than usual, or vanishingly short, and why.

    On logarithms, so that it does not depend on the method's scale: further above the usual length than ``spread``
    times the round's median absolute deviation (Leys et al., J. Exp. Soc. Psychol. 2013). No minority can move either
    far.

    Args:
        lengths: Euclidean norms of updates of the same tensors, by site; above 0.
        spread: how many of the round's robust standard deviations; 0: nothing is said.
        before: of :func:`usual`, for earlier rounds.

    >>> outliers({"a": 1.0, "b": 1.1, "c": 0.9, "d": 100.0}, 3.0)
    {'d': 'its update is 95.2 times as long as is usual in this run, at most 3.1 times is accepted'}
    """
    if not spread or len(lengths) < FEWEST:
        return {}
    middle = median(lengths.values())
    deviation = _NORMAL * median(abs(math.log(length / middle)) for length in lengths.values())
    most, reference = math.exp(min(spread * max(deviation, _FLOOR), 700.0)), usual(lengths.values(), before)
    reasons = {}
    for site, length in lengths.items():
        if length > most * reference:
            reasons[site] = (
                f"its update is {length / reference:.3g} times as long as is usual in this run, "
                f"at most {most:.2g} times is accepted"
            )
        elif length < _FARTHEST_BELOW * middle:
            reasons[site] = (
                f"its update is {length / middle:.1g} of the median of the round: it is as good as untrained"
            )
    return reasons
