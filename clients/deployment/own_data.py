"""What a hospital trains on: its own rows, under the labels of the federation."""

from __future__ import annotations

from clients.site_file import SiteFile
from fedmedpeft.components import ComponentSpec, parse_spec
from fedmedpeft.config import RunConfig
from fedmedpeft.data import PartitionManifest, Source, build_source
from fedmedpeft.data.own_rows import OwnRows, own_rows
from fedmedpeft.data.own_rows import own_partition as partition_of

_PATHS = ("path", "root")
"""Options of data sources that name a file or a folder."""


def own_source(site: SiteFile) -> OwnRows:
    """The site's data as ``site.yaml`` names it.

    Raises:
        ConfigError: an unknown source or option.
        DataError: it cannot be used, is of several sites, or has a label that is none of the federation's.
    """
    return own_rows(build_source(_from_the_site_file(site)), site=site.data.rows_of, classes=site.data.classes)


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


def _from_the_site_file(site: SiteFile) -> str:
    """The source's text with its relative paths starting where the site file lies, as those of the file itself do."""
    spec = parse_spec(site.data.source)
    paths = {
        name: str(site.path(value))
        for name, value in spec.options.items()
        if name in _PATHS and isinstance(value, str) and value
    }
    return str(ComponentSpec(spec.name, {**spec.options, **paths}))
