"""feature-shift: the same classes, other devices.

Source: the feature skew of Li et al. (FedBN), ICLR 2021, and of NIID-Bench, ICDE 2022.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedmedpeft.components import Options
from fedmedpeft.data.partitioners.base import PARTITIONERS, Assignment, DrawnOnce, deal_evenly, numbered
from fedmedpeft.data.photometry import draw_photometry
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.units import group_units


class FeatureShiftOptions(Options):
    """Options of ``feature-shift``."""

    strength: float = Field(0.5, ge=0, le=3, description="how much the devices differ; 0: iid; 1: clearly visible")


@PARTITIONERS.register("feature-shift", FeatureShiftOptions)
class FeatureShift(DrawnOnce):
    """Deal as iid does, and give each site a device (gain, gamma, stain, blur, noise) that its images pass through.

    The device is written into the partition manifest and applied where the site's images are loaded.

    Example: ``feature-shift(strength=0.5)``
    """

    def __init__(self, options: FeatureShiftOptions) -> None:
        self.strength = options.strength

    def assign(self, table: ImageTable, sites: int, rng: np.random.Generator) -> Assignment:
        units = group_units(table)
        site_of = deal_evenly(units, sites, rng)[units.of_row]
        return Assignment(site_of, numbered(sites), tuple(draw_photometry(rng, self.strength) for _ in range(sites)))
