"""One hospital's rows of a source, under the labels of a whole federation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
from PIL import Image

from fedmedpeft.components import suggest
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition import make_partition
from fedmedpeft.data.partition_manifest import PartitionManifest
from fedmedpeft.data.source import ImageTable, Source

_COLUMNS = ("keys", "splits", "sites", "patients", "texts", "answers", "answer_types", "images")


class OwnRows:
    """A source of some rows of another; see :class:`fedmedpeft.data.source.Source`."""

    def __init__(self, source: Source, rows: np.ndarray, table: ImageTable) -> None:
        self.name, self.synthetic, self.description = source.name, source.synthetic, source.description
        self.table = table
        self._source, self._rows = source, rows

    def image(self, row: int) -> Image.Image:
        return self._source.image(int(self._rows[row]))


def own_rows(source: Source, *, site: str = "", classes: Sequence[str] = ()) -> OwnRows:
    """What of ``source`` is one hospital's.

    Args:
        site: value of its site column; empty: all rows, which must then be of one site.
        classes: all labels of the federation, sorted; some may have no rows here. Empty: those of the data.

    Raises:
        DataError: there is no such site, there are several and none is named, or a label that is not among ``classes``.
    """
    rows = _rows_of(source.table, site)
    table = _taken(source.table, rows)
    if classes:
        table = _relabelled(table, tuple(classes))
    return OwnRows(source, rows, table)


def own_partition(
    source: Source, name: str, *, seed: int, val_fraction: float, test_fraction: float, min_train: int
) -> PartitionManifest:
    """All rows of ``source`` as one site's, divided by patient into train, val and test (or as the source says).

    Raises:
        DataError: fewer than ``min_train`` training rows; a patient in two splits; or a name that no site can have.
    """
    partition = make_partition(
        source,
        "iid",
        sites=1,
        seed=seed,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        min_train_per_site=min_train,
    )
    return replace(partition, sites=(name,))


def _rows_of(table: ImageTable, site: str) -> np.ndarray:
    found = sorted(set(table.sites or ()))
    if not site:
        if len(found) > 1:
            raise DataError(
                f"The data is of {len(found)} sites ({', '.join(found)}). Say which of them this hospital is, or give "
                "it a table of its own.",
                public="The data is of several sites.",
            )
        return np.arange(len(table), dtype=np.int64)
    if site not in found:
        known = ", ".join(found) or "none, there is no site column"
        raise DataError(
            f"The data has no site '{site}'.{suggest(site, found)} It has: {known}.",
            public="The data has no rows of this site.",
        )
    assert table.sites is not None
    return np.array([row for row, name in enumerate(table.sites) if name == site], dtype=np.int64)


def _taken(table: ImageTable, rows: np.ndarray) -> ImageTable:
    columns = {name: getattr(table, name) for name in _COLUMNS}
    taken = {name: None if column is None else tuple(column[row] for row in rows) for name, column in columns.items()}
    others = {field.name: getattr(table, field.name) for field in fields(table) if field.name not in _COLUMNS}
    return ImageTable(**{**others, **taken, "labels": table.labels[rows]})


def _relabelled(table: ImageTable, classes: tuple[str, ...]) -> ImageTable:
    present = {table.classes[label] for label in np.unique(table.labels)}
    unknown = sorted(present - set(classes))
    if unknown:
        raise DataError(
            f"The data has the label '{unknown[0]}', which is none of the federation's: {', '.join(classes)}."
            f"{suggest(unknown[0], classes)} Correct the data, or the list of classes.",
            public="The data has a label that is none of the federation's.",
        )
    index = {name: number for number, name in enumerate(classes)}
    new = np.array([index.get(name, -1) for name in table.classes], dtype=np.int64)
    return replace(table, labels=new[table.labels], classes=classes)
