"""What can be known before anything starts: typos, data that is not there, too few images, the number of sites."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data import PartitionManifest, Source, build_source
from fedmedpeft.data.run_partition import check_partition_name, partition_for
from fedmedpeft.privacy.options import all_private, check_named_sites, check_privacy, site_privacy

if TYPE_CHECKING:  # torch is only loaded where something is checked with it
    from fedmedpeft.methods import Rotation
    from fedmedpeft.tasks import Task

PARTITION_FILE = "partition.json"
"""Who had which images, saved by `fedmedpeft run`, which sees all data; a server that does not has only its hash."""


@dataclass(frozen=True)
class Federation:
    """A run that is known to be startable as far as its data goes; ``config.sites`` is its number of sites."""

    config: RunConfig
    source: Source
    partition: PartitionManifest

    @property
    def sites(self) -> int:
        return len(self.partition.sites)


def plan_federation(config: RunConfig) -> Federation:
    """Read the source and divide it as the run will.

    Raises:
        ConfigError: an unknown source, partitioner or option, or fewer sites than ``min-sites``.
        DataError: the data is not there or cannot be divided so.
    """
    check_partition_name(config.partition)
    check_privacy(config)
    source = build_source(config.data)
    partition = partition_for(config, source, config.sites)
    check_named_sites(config, partition.sites)
    planned = RunConfig.from_mapping(config.to_mapping() | {"sites": len(partition.sites)})
    return Federation(planned, source, partition)


def check_components(federation: Federation) -> None:
    """Derive what will be exchanged, from method and backbone but without weights, and build the strategy.

    Raises:
        ConfigError: an unknown component or option, no such backbone, device, list of answers or adapter to start from,
            too few sites, or parts that do not go together.
        DataError: a source of knowledge that cannot be read.
    """
    from fedmedpeft.backbones import load_record, skeleton
    from fedmedpeft.starting_state import adapter_in
    from fedmedpeft.tasks.reading import check_reading
    from server.joining import exchanged

    config = federation.config
    if config.start_from:
        adapter_in(Path(config.start_from))
    record = load_record(config.backbone, revision=config.backbone_revision, image_size=config.image_size)
    check_reading(config, federation.source, skeleton(record))
    if config.knowledge:
        from fedmedpeft.knowledge import build_linker

        build_linker(config.knowledge)
    _, rotation = exchanged(config, record, planned_task(federation).classes)
    check_strategy(federation, rotation)
    _check_device(config.device)


def planned_task(federation: Federation) -> Task:
    """The task over the classes that the run will have, where all data can be seen.

    Raises:
        ConfigError: there are none, or a list of them cannot be read.
    """
    from fedmedpeft.starting_state import given_classes
    from fedmedpeft.tasks import build_task

    config, table = federation.config, federation.source.table
    task = build_task(config.task)
    if not task.agrees:
        return task.of_data(table.classes)
    given = given_classes(config)
    if given is not None:
        return task.over(given)
    if all_private(config):
        raise ConfigError(
            f"task='{config.task}' with privacy='{config.privacy}': a site with privacy names none of its answers, so "
            "there would be nothing to learn. Give a list: vqa(answers='FILE')."
        )
    # Without answers the data is of another task, which is refused elsewhere.
    agreed = {answer for site in federation.partition.sites for answer in site_answers(federation, site)}
    if not agreed and table.answers is not None:
        raise ConfigError(
            f"task='{config.task}': no training answer occurs {task.least} times at any site, so there is nothing to "
            "learn. Lower min_count, or give a list: vqa(answers='FILE')."
        )
    return task.over(sorted(agreed))


def site_answers(federation: Federation, site: str) -> dict[str, int]:
    """What a site will tell of its training answers, were all its images readable."""
    from fedmedpeft.tasks import build_task
    from fedmedpeft.tasks.answers import frequent_answers

    answers = federation.source.table.answers
    rows = federation.partition.rows(site, "train").tolist() if answers is not None else []
    return frequent_answers([answers[row] for row in rows] if answers else [], build_task(federation.config.task).least)


def planned_privacy(federation: Federation, site: str) -> str:
    """What a site's updates will be private per, as far as its settings say: in ``auto`` a site that does not say that
    it is out of the domain counts as within it."""
    settings, table = site_privacy(federation.config, site), federation.source.table
    if settings.options is None or (settings.mode == "auto" and not settings.out_of_domain):
        return ""
    if settings.options.unit != "auto":
        return settings.options.unit
    return "patient" if table.patients is not None else "record" if table.images is None else "image"


def check_strategy(federation: Federation, rotation: Rotation) -> None:
    """Build the strategy and, for a federated run, ask whether it goes with the method and the number of sites.

    Raises:
        ConfigError: an unknown strategy or option, too few sites, or it needs what the method's rounds do not give.
    """
    from server.client_checks import check_client_privacy, check_sites
    from server.strategies import build_strategy, check_inbound, check_rotation, fewest_sites

    config = federation.config
    strategy = build_strategy(config.strategy)
    if config.mode != "federated":
        return
    least = fewest_sites(strategy)
    if least > federation.sites:
        raise ConfigError(
            f"strategy='{config.strategy}' needs {least} sites, there are {federation.sites}. "
            "Choose another strategy or other options, or more sites."
        )
    check_rotation(strategy, rotation, config.strategy)
    check_sites(check_client_privacy(config, strategy, rotation), federation.sites)
    check_inbound(strategy, config.inbound_factor, config.strategy)


def _check_device(device: str) -> None:
    import torch

    if device not in ("auto", "cpu") and not torch.cuda.is_available():
        raise ConfigError(f"device='{device}': there is no GPU that torch can use here. Use device='auto' or 'cpu'.")
