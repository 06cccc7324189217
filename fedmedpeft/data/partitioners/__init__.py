"""The partitioners, one file each; importing this package registers them."""

from __future__ import annotations

from fedmedpeft.data.partitioners import dirichlet, feature_shift, iid, natural, pathological, quantity
from fedmedpeft.data.partitioners.base import PARTITIONERS, Assignment, Partitioner

__all__ = [
    "PARTITIONERS",
    "Assignment",
    "Partitioner",
    "dirichlet",
    "feature_shift",
    "iid",
    "natural",
    "pathological",
    "quantity",
]
