"""Epsilon by numerical composition of privacy loss variables (PRV; Gopi, Lee and Wutschitz 2021, arXiv:2106.02848).

Opacus computes it; this keeps it to where it is a bound. Measured against Google's ``dp-accounting``, it lies 0.01
above the true epsilon, which is the error that it is asked for. But

- below delta 1e-11 rounding in its Fourier transforms makes it report **too little** (14.08 for 14.12 at 1e-13), and
  its own guard, made for long doubles, lets that pass;
- at an epsilon of several hundred its exponentials overflow, after seconds and gigabytes;
- the more steps, the finer and larger its grid.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy.integrate import IntegrationWarning

from fedmedpeft.privacy.renyi import Kinds, rdp_epsilon

LEAST_DELTA = 1e-10
"""Below, rounding is not small beside delta."""

_MOST_LOSS = 600.0
"""Largest privacy loss on a grid: its exponential is far from overflowing."""

_POINTS, _POINTS_IN_ALL = 4_000_000, 16_000_000
"""Points of one grid, and of all grids that are in memory together: about 0.5 GB."""

_ERROR, _MOST_ERROR = 0.01, 0.1
"""What the grid adds to epsilon: usually, and for histories so long that their grid would not fit else."""


class NoBoundError(Exception):
    """There is none to be had; the message says why."""


def prv_epsilon(steps: Kinds, delta: float) -> float:
    """Upper bound of epsilon at ``delta`` of all ``steps`` (at least one) together.

    Raises:
        NoBoundError: the numbers are outside of what can be trusted.
    """
    if delta < LEAST_DELTA:
        raise NoBoundError(f"prv cannot be trusted at delta={delta:g}, below {LEAST_DELTA:g}.")
    from fedmedpeft.privacy.quiet_opacus import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(*kind, count) for kind, count in steps.items()]
    error = _grid_error(steps, delta)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            # Its grid may be wider than it must be; and at a rate of 1 the logarithm of 0 is -inf, as it should.
            warnings.filterwarnings("ignore", message="Optimal order is the")
            warnings.filterwarnings("error", category=IntegrationWarning)
            found = float(accountant.get_epsilon(delta, eps_error=error))
    except (ArithmeticError, IntegrationWarning, MemoryError, RuntimeError, ValueError) as problem:
        raise NoBoundError(f"prv has no answer ({problem}).") from None
    if not math.isfinite(found):
        raise NoBoundError("prv has no answer (it overflows).")
    return max(found, 0.0)


def _grid_error(steps: Kinds, delta: float) -> float:
    """The error to ask for, so that grids fit: each is twice the largest loss wide, its mesh grows with the error."""
    total = sum(steps.values())
    # As Opacus chooses it (remark 5.6 of the paper), with a thousandth of delta for what lies beyond the grid.
    loss = max(rdp_epsilon(steps, delta / 4_000), *(rdp_epsilon({kind: 1}, delta / (8_000 * total)) for kind in steps))
    if loss + 3 > _MOST_LOSS:
        raise NoBoundError(f"prv cannot be computed for privacy losses of {loss:.0f}.")
    mesh = _ERROR / math.sqrt(total * math.log(12_000 / delta) / 2)
    fits = min(_POINTS, _POINTS_IN_ALL // len(steps))
    error = _ERROR * max(1.0, 2 * (loss + 3) / mesh / max(fits, 1))
    if error > _MOST_ERROR:
        raise NoBoundError(f"prv would need too large a grid for {total:,} steps of {len(steps):,} kinds.")
    return error
