"""pathological: every site knows only k classes. Source: McMahan et al., AISTATS 2017 (arXiv 1602.05629)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedmedpeft.components import ConfigError, Options
from fedmedpeft.data.partitioners.base import PARTITIONERS, Assignment, DrawnOnce, deal, numbered
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.units import group_units


class PathologicalOptions(Options):
    """Options of ``pathological``."""

    classes_per_site: int = Field(2, ge=1, description="how many classes a site has")


@PARTITIONERS.register("pathological", PathologicalOptions)
class Pathological(DrawnOnce):
    """Classes go round the sites in a random order; a class is dealt evenly to the sites that have it.

    With patients, a patient goes where most of its images belong and may bring a few of another class.

    Raises:
        ConfigError: more classes per site than there are, or too few sites to hold every class.

    Example: ``pathological(classes_per_site=2)``
    """

    def __init__(self, options: PathologicalOptions) -> None:
        self.classes_per_site = options.classes_per_site

    def assign(self, table: ImageTable, sites: int, rng: np.random.Generator) -> Assignment:
        classes, per_site = len(table.classes), self.classes_per_site
        if per_site > classes:
            raise ConfigError(f"pathological(classes_per_site={per_site}): the data has only {classes} classes.")
        if sites * per_site < classes:
            raise ConfigError(
                f"pathological(classes_per_site={per_site}): {sites} sites hold {sites * per_site} of {classes} "
                "classes, and images of the others would be lost. Use more sites or more classes per site."
            )
        units = group_units(table)
        site_of_unit = np.empty(len(units), dtype=np.int64)
        order = rng.permutation(classes)
        slots = np.arange(sites * per_site)
        for place, label in enumerate(order):
            owners = rng.permutation(slots[slots % classes == place] // per_site)
            members = rng.permutation(np.flatnonzero(units.labels == label))
            deal(members, np.full(len(owners), 1 / len(owners)), site_of_unit, owners.tolist())
        return Assignment(site_of_unit[units.of_row], numbered(sites))
