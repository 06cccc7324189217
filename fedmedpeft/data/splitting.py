"""Train, val and test within each site: stratified by class, patients kept together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import SPLITS, ImageTable
from fedmedpeft.data.units import Units, straddling

TRAIN, VAL, TEST = range(3)


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raises ConfigError unless both are in 0..1 and leave something to train on."""
    for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 <= value < 1:
            raise ConfigError(f"{name}={value} must be at least 0 and below 1.")
    if val_fraction + test_fraction >= 1:
        raise ConfigError(f"val_fraction={val_fraction} and test_fraction={test_fraction} leave nothing to train on.")


def given_splits(table: ImageTable, units: Units) -> np.ndarray:
    """The table's own splits as codes, int8 [N]; all train where it has none.

    Raises:
        DataError: a patient is in more than one split, and the table does not say that it knows.
    """
    if table.splits is None:
        return np.zeros(len(table), dtype=np.int8)
    codes = np.array([SPLITS.index(split) for split in table.splits], dtype=np.int8)
    torn = 0 if table.splits_share_patients else straddling(units, codes)
    if torn:
        raise DataError(
            f"{torn} of {len(units)} {units.kind}s are in more than one split: the test would be of {units.kind}s "
            f"already seen. Correct the split column, or leave it out and let the split be drawn by {units.kind}.",
            public=f"The data has {units.kind}s that are in more than one split.",
        )
    return codes


def torn_by_splits(table: ImageTable, units: Units, split_of: np.ndarray) -> int:
    """How many units ``split_of`` (int8 [N]) has in several splits, beyond what a table that shares patients says."""
    if table.splits_share_patients:
        # Rows of a patient that the table puts apart may lie apart; those that it keeps together stay together.
        units = replace(units, of_row=units.of_row * len(SPLITS) + given_splits(table, units))
    return straddling(units, split_of)


def split_rows(
    table: ImageTable,
    units: Units,
    site_of: np.ndarray,
    *,
    val_fraction: float,
    test_fraction: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Split codes int8 [N]: 0 train, 1 val, 2 test, -1 for rows of no site.

    Rows that the table calls val or test stay that. Where it has no test (val) rows at all, ``test_fraction``
    (``val_fraction``) of each site is carved out of train. Both are fractions of the site where the table has no
    splits; with the table's own test rows, ``val_fraction`` is of the rest.
    """
    codes = given_splits(table, units)
    shares = []
    if not (codes == TEST).any():
        shares.append((TEST, test_fraction))
    if not (codes == VAL).any():
        shares.append((VAL, val_fraction / (1 - test_fraction) if shares else val_fraction))
    for site in range(int(site_of.max(initial=-1)) + 1):
        for code, fraction in shares:
            free = np.flatnonzero((site_of == site) & (codes == TRAIN))
            codes[_carve(units, free, fraction, rng)] = code
    codes[site_of < 0] = -1
    return codes


def _carve(units: Units, rows: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """About ``fraction`` of ``rows``, whole units, from every class in proportion.

    What a class is owed but too small to give is carried to the next class, so the total is right even where no class
    alone has enough. The last unit of a class stays: what is not trained on cannot be learnt.
    """
    sizes = np.bincount(units.of_row[rows], minlength=len(units))
    members = rng.permutation(np.unique(units.of_row[rows]))
    members = members[np.argsort(units.labels[members], kind="stable")]
    remaining = np.bincount(units.labels[members], minlength=int(units.labels.max(initial=0)) + 1)
    owed, taken = 0.0, []
    for unit in members:
        owed += fraction * sizes[unit]
        if owed >= sizes[unit] / 2 and remaining[units.labels[unit]] > 1:
            owed -= sizes[unit]
            remaining[units.labels[unit]] -= 1
            taken.append(unit)
    return rows[np.isin(units.of_row[rows], taken)]
