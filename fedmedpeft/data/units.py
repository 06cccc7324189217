"""Units: what a partition or a split may move. A patient's images are one unit; without patients, each image is.

All questions and captions about an image go where it goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmedpeft.data.source import ImageTable


@dataclass(frozen=True, eq=False)
class Units:
    """The units of a table.

    Attributes:
        of_row: int64 [N], the unit of each row.
        labels: int64 [U], the label that most rows of a unit have (the lower one of a tie).
        sizes: int64 [U], rows per unit.
        kind: what one is, for messages: ``patient`` or ``image``.
    """

    of_row: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    kind: str = "patient"

    def __len__(self) -> int:
        return len(self.sizes)


def group_units(table: ImageTable) -> Units:
    """Units in the order in which their first rows appear, so that they do not depend on how patients are named."""
    rows = len(table)
    owners, kind = (table.images, "image") if table.patients is None else (table.patients, "patient")
    if owners is None:
        return Units(np.arange(rows), table.labels, np.ones(rows, dtype=np.int64), kind)
    index: dict[str, int] = {}
    of_row = np.array([index.setdefault(owner, len(index)) for owner in owners], dtype=np.int64)
    votes = np.zeros((len(index), len(table.classes)), dtype=np.int64)
    np.add.at(votes, (of_row, table.labels), 1)
    return Units(of_row, votes.argmax(axis=1), votes.sum(axis=1), kind)


def straddling(units: Units, groups: np.ndarray) -> int:
    """How many units have rows in more than one of ``groups`` (int [N])."""
    pairs = np.unique(np.stack([units.of_row, groups]), axis=1)
    return int((np.bincount(pairs[0]) > 1).sum())
