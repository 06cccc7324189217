"""Epsilon by Renyi DP (RDP) of the sampled Gaussian mechanism, at orders that suit what was spent.

The divergences and their conversion are Opacus' (Mironov, Talwar and Zhang 2019, arXiv:1908.10530; Balle et al. 2020,
arXiv:1905.09982, theorem 21). Its accountant tries the orders 1.1 to 63 whatever is asked, so that an epsilon below 0.3
or above 100 comes out larger than it is, and counts low orders, which are slow, where they cannot be best.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Kinds = Mapping[tuple[float, float], int]
"""Steps of each kind: (noise multiplier, sampling rate) -> how many."""

ORDERS: tuple[tuple[float, ...], ...] = (
    (1.01, 1.02, 1.05),
    tuple(tenth / 10 for tenth in range(11, 20)),
    (*(tenth / 10 for tenth in range(20, 110)), *range(11, 64)),
    (64, 72, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024),
)
"""In the parts in which they are tried: first the third, then its neighbours as long as the best order lies at an end.
Only where epsilon is below 0.01 or above 1,000 can the best order lie beyond all of these: it is a bound there too."""

_FIRST = 2


def rdp_epsilon(steps: Kinds, delta: float) -> float:
    """Upper bound of epsilon at ``delta`` of all ``steps`` (at least one) together."""
    from fedmedpeft.privacy.quiet_opacus import get_privacy_spent

    part, came_by, best = _FIRST, 0, math.inf
    while True:
        divergences = sum(count * _of_one_step(*kind, part) for kind, count in steps.items())
        with warnings.catch_warnings():
            # That the best order is the first or the last of those given is what the lines below act on.
            warnings.filterwarnings("ignore", message="Optimal order is the")
            found, order = get_privacy_spent(orders=list(ORDERS[part]), rdp=divergences, delta=delta)
        best = min(best, float(found))
        move = {ORDERS[part][0]: -1, ORDERS[part][-1]: 1}.get(float(order), 0)
        if move == 0 or move == -came_by or not 0 <= part + move < len(ORDERS):
            return max(best, 0.0)
        part, came_by = part + move, move


@lru_cache(maxsize=4096)
def _of_one_step(noise_multiplier: float, sample_rate: float, part: int) -> NDArray[np.float64]:
    """Divergences of one step at the orders of a part."""
    from fedmedpeft.privacy.quiet_opacus import compute_rdp

    found = compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=list(ORDERS[part]))
    # The last digits of one plus almost nothing can make it negative.
    return np.maximum(np.asarray(found, dtype=np.float64), 0.0)
