"""natural: the sites that the data says it comes from."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fedmedpeft.components import ConfigError, NoOptions
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partitioners.base import PARTITIONERS, Assignment, DrawnOnce
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.units import group_units, straddling


@PARTITIONERS.register("natural")
class Natural(DrawnOnce):
    """One site per value of the site column, in alphabetical order.

    Raises:
        DataError: the source has no sites, or a patient is in more than one.
        ConfigError: ``sites`` is neither 0 nor the number of sites in the data.

    Example: ``natural``
    """

    natural: ClassVar[bool] = True

    def __init__(self, options: NoOptions) -> None:
        del options

    def assign(self, table: ImageTable, sites: int, rng: np.random.Generator) -> Assignment:
        if table.sites is None:
            raise DataError("The source has no site column, which the natural partitioner needs. Add one, or use iid.")
        names = tuple(sorted(set(table.sites)))
        if sites not in (0, len(names)):
            listed = ", ".join(names)
            raise ConfigError(f"sites={sites}, but the data has {len(names)}: {listed}. Set sites={len(names)} or 0.")
        index = {name: site for site, name in enumerate(names)}
        site_of = np.array([index[name] for name in table.sites], dtype=np.int64)
        units = group_units(table)
        torn = straddling(units, site_of)
        if torn:
            raise DataError(
                f"{torn} {units.kind}s are in more than one site. Correct the site or {units.kind} column, or "
                f"partition by {units.kind} instead: iid, dirichlet.",
                public=f"The data has {units.kind}s that are in more than one site.",
            )
        return Assignment(site_of, names)
