"""iid: every site is a random sample of the same population."""

from __future__ import annotations

import numpy as np

from fedmedpeft.components import NoOptions
from fedmedpeft.data.partitioners.base import PARTITIONERS, Assignment, DrawnOnce, deal_evenly, numbered
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.units import group_units


@PARTITIONERS.register("iid")
class Iid(DrawnOnce):
    """Shuffle, then deal evenly. The easy case that the others are compared with.

    Example: ``iid``
    """

    def __init__(self, options: NoOptions) -> None:
        del options

    def assign(self, table: ImageTable, sites: int, rng: np.random.Generator) -> Assignment:
        units = group_units(table)
        return Assignment(deal_evenly(units, sites, rng)[units.of_row], numbered(sites))
