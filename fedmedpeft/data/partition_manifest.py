"""The partition manifest: which site has which row in which split, kept in one readable, reproducible file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import suggest
from fedmedpeft.data import partition_file
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.photometry import Photometry
from fedmedpeft.data.source import SPLITS, ImageTable
from fedmedpeft.data.splitting import torn_by_splits
from fedmedpeft.data.units import group_units, straddling
from fedmedpeft.site_names import RULE, is_site_name


@dataclass(frozen=True, eq=False)
class PartitionManifest:
    """Who has which row, in which split. It holds row numbers, never keys or patients.

    Attributes:
        source: name of the source. source_hash: ``ImageTable.content_hash`` of the table it was made for.
        partitioner: as written, e.g. ``dirichlet(alpha=0.3)``. seed: of the partition.
        sites: site names in order.
        classes: class names, index = label.
        site_of: int64 [N], index into ``sites``; -1 for a row that no site has.
        split_of: int8 [N], index into ``SPLITS``; -1 where ``site_of`` is.
        class_counts: int64 [site, split, class], images.
        shifts: what each site's device does to its images (the feature-shift partitioner), or None.
    """

    source: str
    source_hash: str
    partitioner: str
    seed: int
    sites: tuple[str, ...]
    classes: tuple[str, ...]
    site_of: np.ndarray
    split_of: np.ndarray
    class_counts: np.ndarray
    shifts: tuple[Photometry, ...] | None = None

    def __post_init__(self) -> None:
        for site in self.sites:
            if not is_site_name(site):
                raise DataError(
                    f"Site name '{site}' is not {RULE}. Rename it in the site column.",
                    public="A site's name has characters that are not allowed.",
                )

    def rows(self, site: str, split: str) -> np.ndarray:
        """Rows of the source's table, int64, ascending.

        Raises:
            DataError: unknown site or split.
        """
        index = self.site_index(site)
        return np.flatnonzero((self.site_of == index) & (self.split_of == split_index(split)))

    def site_index(self, site: str) -> int:
        """Raises DataError where the partition has no such site."""
        if site not in self.sites:
            known = ", ".join(self.sites)
            raise DataError(f"The partition has no site '{site}'.{suggest(site, self.sites)} Known: {known}.")
        return self.sites.index(site)

    def counts(self) -> np.ndarray:
        """Images per [site, split, class], int64."""
        return self.class_counts.copy()

    def hash(self) -> str:
        """SHA-256 (hex) of the file that ``save`` writes."""
        return hashlib.sha256(self._text().encode()).hexdigest()

    def save(self, path: Path | str) -> None:
        """Write one JSON file, all or nothing; the same partition always gives the same bytes."""
        write_atomically(Path(path), self._text())

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read and check a saved partition.

        Raises:
            DataError: missing, not this schema, a row twice or out of range, or counts that do not add up.
        """
        record = partition_file.read(Path(path))
        site_of = np.full(record.rows, -1, dtype=np.int64)
        split_of = np.full(record.rows, -1, dtype=np.int8)
        for index, site in enumerate(record.sites):
            for code, rows in enumerate(partition_file.by_split(site)):
                site_of[rows] = index
                split_of[rows] = code
        shifts = tuple(site.shift for site in record.sites if site.shift is not None)
        return cls(
            source=record.source,
            source_hash=record.source_hash,
            partitioner=record.partitioner,
            seed=record.seed,
            sites=tuple(site.name for site in record.sites),
            classes=tuple(record.classes),
            site_of=site_of,
            split_of=split_of,
            class_counts=np.array([[site.counts[split] for split in SPLITS] for site in record.sites], dtype=np.int64),
            shifts=shifts or None,
        )

    def check(self, table: ImageTable) -> None:
        """Refuse data other than that which the partition was made for.

        Raises:
            DataError: the table's content, or the classes and counts that follow from it, are different.
        """
        found = table.content_hash()
        if found != self.source_hash:
            raise DataError(
                f"The partition was made for other data: {len(self.site_of)} {table.unit} of '{self.source}' with hash "
                f"{self.source_hash[:12]}; this source has {len(table)} with hash {found[:12]}. "
                "Use the source it was made for, or make a new partition."
            )
        units = group_units(table)
        between = {"site": straddling(units, self.site_of), "split": torn_by_splits(table, units, self.split_of)}
        for what, torn in between.items():
            if torn:
                raise DataError(f"{torn} {units.kind}s are in more than one {what} of the partition. Make it again.")
        counts = count_classes(table, self.site_of, self.split_of, len(self.sites))
        if self.classes != table.classes or not np.array_equal(self.class_counts, counts):
            raise DataError(
                "The partition's classes or counts do not follow from its rows: it was edited. Make it again."
            )

    def _text(self) -> str:
        sites = [
            partition_file.SiteRecord(
                name=name,
                shift=self.shifts[index] if self.shifts is not None else None,
                counts=dict(zip(SPLITS, self.class_counts[index].tolist(), strict=True)),
                train=self.rows(name, "train").tolist(),
                val=self.rows(name, "val").tolist(),
                test=self.rows(name, "test").tolist(),
            )
            for index, name in enumerate(self.sites)
        ]
        record = partition_file.PartitionRecord(
            schema=1,
            source=self.source,
            source_hash=self.source_hash,
            partitioner=self.partitioner,
            seed=self.seed,
            rows=len(self.site_of),
            classes=list(self.classes),
            sites=sites,
        )
        return partition_file.render(record)


def split_index(split: str) -> int:
    """Position in ``SPLITS``. Raises DataError for any other name."""
    if split not in SPLITS:
        raise DataError(f"There is no split '{split}'.{suggest(split, SPLITS)} Known: {', '.join(SPLITS)}.")
    return SPLITS.index(split)


def count_classes(table: ImageTable, site_of: np.ndarray, split_of: np.ndarray, sites: int) -> np.ndarray:
    """Images per [site, split, class], int64."""
    counts = np.zeros((sites, len(SPLITS), len(table.classes)), dtype=np.int64)
    used = site_of >= 0
    np.add.at(counts, (site_of[used], split_of[used].astype(np.int64), table.labels[used]), 1)
    return counts
