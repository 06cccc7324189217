"""The partition of a run: made from its configuration, or read from a file made before."""

from __future__ import annotations

from pydantic import Field

from fedmedpeft.components import ConfigError, Options, parse_spec
from fedmedpeft.config import RunConfig
from fedmedpeft.data.partition import make_partition
from fedmedpeft.data.partition_manifest import PartitionManifest
from fedmedpeft.data.source import Source

FROM_FILE = "file"


class FileOptions(Options):
    """Options of ``partition='file(path=...)'``."""

    path: str = Field(min_length=1, description="a partition manifest, as `fedmedpeft partition make` writes it")


def partition_for(config: RunConfig, source: Source, sites: int) -> PartitionManifest:
    """The partition that every process of a run arrives at on its own.

    Raises:
        ConfigError: the options of ``file``, or a number of sites other than that of the federation.
        DataError: the data cannot be divided so, or the file is of other data.
    """
    spec = parse_spec(config.partition)
    if spec.name == FROM_FILE:
        if set(spec.options) != {"path"}:
            raise ConfigError(f"partition='{spec}': 'file' takes one option, path. Write file(path=/dir/p.json).")
        partition = PartitionManifest.load(FileOptions.model_validate(dict(spec.options)).path)
        partition.check(source.table)
    else:
        partition = make_partition(
            source,
            config.partition,
            sites=sites,
            seed=config.partition_seed,
            val_fraction=config.val_fraction,
            test_fraction=config.test_fraction,
            min_train_per_site=config.min_train_per_site,
        )
    if sites and len(partition.sites) != sites:
        raise ConfigError(
            f"The federation has {sites} nodes, but partition='{config.partition}' has {len(partition.sites)} sites. "
            f"Give it as many nodes: --federation-config 'num-supernodes={len(partition.sites)}' "
            "(`fedmedpeft run` does so by itself)."
        )
    return partition
