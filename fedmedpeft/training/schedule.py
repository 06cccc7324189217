"""The step size over a whole run, in which rounds are only interruptions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then constant or half-cosine to zero, over ``total`` optimiser steps of one site."""

    total: int
    warmup_fraction: float
    kind: Literal["cosine", "constant"]

    def factor(self, step: int) -> float:
        """What the base step size is multiplied by at ``step`` (from 0).

        >>> Schedule(100, 0.1, "cosine").factor(9)
        1.0
        """
        warmup = round(self.total * self.warmup_fraction)
        if step < warmup:
            return (step + 1) / warmup
        if self.kind == "constant":
            return 1.0
        progress = (step - warmup) / max(1, self.total - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
