"""From a source to a saved partition: who has which image, in which split.

Partitioners are pure numpy functions of (table, seed). ``flwr-datasets`` has the same ones, but is tied to Hugging Face
``datasets`` and its Arrow tables, knows no patients, and would be a large dependency for what is a page of numpy here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedmedpeft.components import ConfigError, parse_spec
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition_manifest import PartitionManifest, count_classes
from fedmedpeft.data.partitioners import PARTITIONERS, Assignment, Partitioner
from fedmedpeft.data.source import ImageTable, Source
from fedmedpeft.data.splitting import TRAIN, check_fractions, split_rows
from fedmedpeft.data.units import Units, group_units, straddling

__all__ = ["PARTITIONERS", "Assignment", "PartitionManifest", "Partitioner", "make_partition"]


def make_partition(
    source: Source,
    spec: str,
    *,
    sites: int,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    min_train_per_site: int,
) -> PartitionManifest:
    """Give the images of ``source`` to ``sites`` sites, each with its own train, val and test.

    No patient and no image is in two sites, nor in two splits unless a published set's own splits share them. The same
    arguments give the same partition, byte for byte.

    Args:
        spec: a partitioner as text, e.g. ``dirichlet(alpha=0.3)``.
        sites: how many; for ``natural`` the number its data has, or 0 for all of them.
        val_fraction: of each site, where the source has no val rows. test_fraction: likewise.
        min_train_per_site: every site must have at least so many training images.

    Raises:
        ConfigError: an unknown partitioner or option, or arguments out of range.
        DataError: the data cannot be divided in this way, or a site gets fewer images than the minimum.
    """
    check_fractions(val_fraction, test_fraction)
    if min_train_per_site < 0 or seed < 0:
        raise ConfigError(f"min_train_per_site={min_train_per_site} and seed={seed} must be at least 0.")
    partitioner = PARTITIONERS.build(spec)
    units = group_units(source.table)
    _check_sites(partitioner, sites, units)
    rng = np.random.default_rng(seed)
    for _ in range(partitioner.attempts):
        given = _drawn(partitioner, source.table, sites, units, rng)
        split_of = split_rows(
            source.table, units, given.site_of, val_fraction=val_fraction, test_fraction=test_fraction, rng=rng
        )
        counts = count_classes(source.table, given.site_of, split_of, len(given.sites))
        train = dict(zip(given.sites, counts[:, TRAIN].sum(axis=1).tolist(), strict=True))
        if min(train.values()) >= min_train_per_site:
            break
    else:
        raise _too_few(f"{spec} gives too few training {source.table.unit}", train, min_train_per_site, partitioner)
    return PartitionManifest(
        source=source.name,
        source_hash=source.table.content_hash(),
        partitioner=str(parse_spec(spec)),
        seed=seed,
        sites=given.sites,
        classes=source.table.classes,
        site_of=given.site_of,
        split_of=split_of,
        class_counts=counts,
        shifts=given.shifts,
    )


def _drawn(
    partitioner: Partitioner, table: ImageTable, sites: int, units: Units, rng: np.random.Generator
) -> Assignment:
    """One draw. Raises DataError where it tears what belongs together."""
    given = partitioner.assign(table, sites, rng)
    torn = straddling(units, given.site_of)
    if torn:
        raise DataError(f"{torn} {units.kind}s are in more than one site. Give all of a {units.kind} to one site.")
    return given


def _check_sites(partitioner: Partitioner, sites: int, units: Units) -> None:
    if sites < (0 if partitioner.natural else 1):
        raise ConfigError(f"sites={sites} must be at least 1 (0 only with 'natural', for all of its sites).")
    if sites > len(units):
        raise DataError(f"sites={sites} is more than the {len(units)} {units.kind}s there are. Use fewer sites.")


def _too_few(problem: str, train: Mapping[str, int], minimum: int, partitioner: Partitioner) -> DataError:
    tried = f" in {partitioner.attempts} draws" if partitioner.attempts > 1 else ""
    sites = ", ".join(f"{site} has {rows}" for site, rows in train.items() if rows < minimum)
    return DataError(f"{problem}{tried}: {sites}; min_train_per_site={minimum}. {partitioner.remedy}")
