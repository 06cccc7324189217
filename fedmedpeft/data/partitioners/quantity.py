"""quantity: sites of very different size. Source: Li et al. (NIID-Bench), ICDE 2022."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedmedpeft.components import Options
from fedmedpeft.data.partitioners.base import PARTITIONERS, Assignment, DrawnAgain, deal, numbered
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.units import group_units


class QuantityOptions(Options):
    """Options of ``quantity``."""

    alpha: float = Field(
        0.5, gt=0, allow_inf_nan=False, description="0.5: a few large and many small sites; 100: nearly one size"
    )


@PARTITIONERS.register("quantity", QuantityOptions)
class Quantity(DrawnAgain):
    """Shuffle, then deal by shares drawn from Dirichlet(alpha, ..., alpha); classes are as in the whole.

    Example: ``quantity(alpha=0.5)``
    """

    def __init__(self, options: QuantityOptions) -> None:
        self.alpha = options.alpha

    def assign(self, table: ImageTable, sites: int, rng: np.random.Generator) -> Assignment:
        units = group_units(table)
        site_of_unit = np.empty(len(units), dtype=np.int64)
        shares = rng.dirichlet(np.full(sites, self.alpha))
        deal(rng.permutation(len(units)), shares, site_of_unit, range(sites))
        return Assignment(site_of_unit[units.of_row], numbered(sites))
