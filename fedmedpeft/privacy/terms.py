"""Words and limits that settings share with the accountant. Light to import: settings are read before torch is."""

from __future__ import annotations

from typing import Literal

Accounting = Literal["rdp", "prv"]

LEAST_NOISE, MOST_NOISE = 0.01, 10_000.0
"""Noise multipliers. Less costs thousands in a single step; of more a float cannot tell the cost."""
