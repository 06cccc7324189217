"""dirichlet: label skew. Source: Yurochkin et al., ICML 2019; Li et al. (NIID-Bench), ICDE 2022."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedmedpeft.components import Options
from fedmedpeft.data.partitioners.base import PARTITIONERS, Assignment, DrawnAgain, deal, numbered
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.units import group_units


class DirichletOptions(Options):
    """Options of ``dirichlet``."""

    alpha: float = Field(
        0.3, gt=0, allow_inf_nan=False, description="0.1: a class or two per site; 1: a mild skew; 100: nearly iid"
    )


@PARTITIONERS.register("dirichlet", DirichletOptions)
class Dirichlet(DrawnAgain):
    """Each class is dealt to the sites by shares drawn from Dirichlet(alpha, ..., alpha).

    Example: ``dirichlet(alpha=0.3)``
    """

    def __init__(self, options: DirichletOptions) -> None:
        self.alpha = options.alpha

    def assign(self, table: ImageTable, sites: int, rng: np.random.Generator) -> Assignment:
        units = group_units(table)
        site_of_unit = np.empty(len(units), dtype=np.int64)
        for label in range(len(table.classes)):
            members = rng.permutation(np.flatnonzero(units.labels == label))
            deal(members, rng.dirichlet(np.full(sites, self.alpha)), site_of_unit, range(sites))
        return Assignment(site_of_unit[units.of_row], numbered(sites))
