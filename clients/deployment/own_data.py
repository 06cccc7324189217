"""What a hospital trains on: its own rows, under the labels of the federation."""

from __future__ import annotations

from clients.site_file import SiteFile
from fedmedpeft.config import RunConfig
from fedmedpeft.data import PartitionManifest, Source, build_source
from fedmedpeft.data.own_rows import OwnRows, own_rows
from fedmedpeft.data.own_rows import own_partition as partition_of


def own_source(site: SiteFile) -> OwnRows:
    """The site's data as ``site.yaml`` names it.

    Raises:
        ConfigError: an unknown source or option.
        DataError: it cannot be used, is of several sites, or has a label that is none of the federation's.
    """
    return own_rows(build_source(site.data.source), site=site.data.rows_of, classes=site.data.classes)


def own_partition(config: RunConfig, source: Source, site_name: str) -> PartitionManifest:
    """The site's rows divided into train, val and test as a run says; the same for the same rows and run.

    Raises:
        DataError: too few training rows, or a patient in two splits.
    """
    return partition_of(
        source,
        site_name,
        seed=config.partition_seed,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        min_train=config.min_train_per_site,
    )
