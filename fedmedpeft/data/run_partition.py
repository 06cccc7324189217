"""The partition of a run: made from its configuration, or read from a file made before."""

from __future__ import annotations

from pydantic import Field

from fedmedpeft.components import ComponentSpec, ConfigError, Options, parse_spec
from fedmedpeft.config import RunConfig
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition import PARTITIONERS, make_partition
from fedmedpeft.data.partition_manifest import PartitionManifest
from fedmedpeft.data.source import SPLITS, Source

AUTO, FROM_FILE, NATURAL = "auto", "file", "natural"
DEFAULT_SITES = 4
"""Where neither the configuration nor the data says how many sites there are."""
# What `auto` does with data that has no sites of its own, or another number of them than the federation has nodes.
_WITHOUT_SITES = "dirichlet(alpha=0.5)"


class FileOptions(Options):
    """Options of ``partition='file(path=...)'``."""

    path: str = Field(min_length=1, description="a partition manifest, as `fedmedpeft partition make` writes it")


def check_partition_name(text: str) -> None:
    """Raises ConfigError for an unknown partitioner or option; reads no data."""
    spec = parse_spec(text)
    if spec.name == FROM_FILE:
        _file_path(spec)
    elif spec.name != AUTO:
        PARTITIONERS.build(spec)


def partition_for(config: RunConfig, source: Source, sites: int) -> PartitionManifest:
    """The partition that every process of a run arrives at on its own.

    Args:
        sites: nodes of the federation; 0: as many as the data has sites, else :data:`DEFAULT_SITES`.

    Raises:
        ConfigError: an unknown partitioner or option, or another number of sites than the federation has nodes.
        DataError: the data cannot be divided so, or the file is of other data.
    """
    spec = _resolved(config.partition, source, sites)
    if spec.name == FROM_FILE:
        partition = PartitionManifest.load(_file_path(spec))
        partition.check(source.table)
        fewest = int(partition.counts()[:, SPLITS.index("train")].sum(axis=1).min())
        if fewest < config.min_train_per_site:
            raise DataError(
                f"A site of the partition file has {fewest} training {source.table.unit}; min-train-per-site is "
                f"{config.min_train_per_site}. Lower it, or make the partition again."
            )
    else:
        partition = make_partition(
            source,
            str(spec),
            sites=sites or (0 if spec.name == NATURAL else DEFAULT_SITES),
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


def _resolved(text: str, source: Source, sites: int) -> ComponentSpec:
    spec = parse_spec(text)
    if spec.name != AUTO:
        return spec
    own = len(set(source.table.sites or ()))
    return parse_spec(NATURAL if own > 1 and sites in (0, own) else _WITHOUT_SITES)


def _file_path(spec: ComponentSpec) -> str:
    if set(spec.options) != {"path"}:
        raise ConfigError(f"partition='{spec}': 'file' takes one option, path. Write file(path=/dir/p.json).")
    return FileOptions.model_validate(dict(spec.options)).path
