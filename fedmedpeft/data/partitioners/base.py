"""What a partitioner is, and the dealing out of units that several of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from fedmedpeft.components import Registry
from fedmedpeft.data.photometry import Photometry
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.units import Units

_FEWER = "Use fewer sites, more images, or a lower min_train_per_site."


@dataclass(frozen=True, eq=False)
class Assignment:
    """A site for every row.

    Attributes:
        site_of: int64 [N], index into ``sites``; -1 for a row that no site gets.
        sites: names in order.
        shifts: what each site's device does to its images, or None.
    """

    site_of: np.ndarray
    sites: tuple[str, ...]
    shifts: tuple[Photometry, ...] | None = None


class Partitioner(Protocol):
    """A pure function from (table, number of sites, random numbers) to an assignment; patients stay whole.

    Attributes:
        attempts: how often it may be drawn again where a site has too few images (1: sizes are not left to chance).
        natural: whether the data, not the caller, says how many sites there are.
        remedy: what to change where sites are too small.
    """

    attempts: ClassVar[int]
    natural: ClassVar[bool]
    remedy: ClassVar[str]

    def assign(self, table: ImageTable, sites: int, rng: np.random.Generator) -> Assignment:
        """Raises DataError where the table cannot be divided in this way."""
        ...


class DrawnOnce:
    """Base of the partitioners whose sizes do not depend on chance."""

    attempts: ClassVar[int] = 1
    natural: ClassVar[bool] = False
    remedy: ClassVar[str] = _FEWER


class DrawnAgain(DrawnOnce):
    """Base of the partitioners that draw sizes from a Dirichlet distribution and may miss the minimum by chance."""

    attempts: ClassVar[int] = 100
    remedy: ClassVar[str] = f"Raise alpha for more even sites. {_FEWER}"


PARTITIONERS: Registry[Partitioner] = Registry("partitioner")


def numbered(sites: int) -> tuple[str, ...]:
    """``site-0``, ``site-1``, ..."""
    return tuple(f"site-{index}" for index in range(sites))


def deal(members: np.ndarray, shares: np.ndarray, site_of_unit: np.ndarray, owners: Sequence[int]) -> None:
    """Give ``members`` (units, in this order) to ``owners`` by ``shares`` (they sum to 1), in place."""
    cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
    for owner, part in zip(owners, np.split(members, cuts), strict=True):
        site_of_unit[part] = owner


def deal_evenly(units: Units, sites: int, rng: np.random.Generator) -> np.ndarray:
    """Site of each unit, int64 [U]: shuffled, then as many units to each site as can be."""
    site_of_unit = np.empty(len(units), dtype=np.int64)
    deal(rng.permutation(len(units)), np.full(sites, 1 / sites), site_of_unit, range(sites))
    return site_of_unit
