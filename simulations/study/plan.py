"""From a study to its cells. Everything that can be wrong is found here, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

from fedmedpeft.components import ConfigError
from fedmedpeft.config import Mode, RunConfig
from fedmedpeft.data.source import SPLITS
from fedmedpeft.tasks import Task, build_task
from simulations.preflight import Federation, check_components, plan_federation, planned_task
from simulations.settings import read_settings
from simulations.study.cell import Cell
from simulations.study.study_file import Study, same_method

Choices = Mapping[tuple[str, str], float]
"""By method and partition, the scale of the step sizes."""

_REFERENCES: tuple[Mode, ...] = ("local-only", "pooled")


@dataclass(frozen=True)
class Size:
    """What one method exchanges in a round, numbers and their bytes; of one that takes turns, the largest part."""

    method_parameters: int
    head_parameters: int
    payload_bytes: int


@dataclass(frozen=True)
class Plan:
    """A study that is known to be startable.

    Args:
        federations: by partition and seed of the study, how the data is divided; the same for all methods.
        sizes: by method.
    """

    study: Study
    federations: Mapping[tuple[str, int], Federation]
    sizes: Mapping[str, Size]

    @property
    def synthetic(self) -> bool:
        return next(iter(self.federations.values())).source.synthetic

    @property
    def task(self) -> Task:
        """The same for all runs."""
        federation = next(iter(self.federations.values()))
        return build_task(federation.config.task)

    @property
    def searches(self) -> bool:
        return len(self.study.learning_rate_scales) > 1

    @property
    def runs(self) -> dict[str, int]:
        """How many there are in all, by method and kind of reference, whatever the search chooses."""
        study = self.study
        each = len(study.learning_rate_scales) + len(study.seeds) - 1
        runs = {method: each * len(study.partitions) for method in study.methods}
        if study.references:
            runs |= {kind: len(study.seeds) * len(study.partitions) for kind in _REFERENCES}
        return runs

    def first(self) -> list[Cell]:
        """Every scale with the first seed: what the choice is made from."""
        study = self.study
        return [
            self.cell("federated", method, partition, study.seeds[0], scale)
            for partition, method, scale in product(study.partitions, study.methods, study.learning_rate_scales)
        ]

    def rest(self, chosen: Choices) -> list[Cell]:
        """The other seeds at the chosen scales, and the references; nothing of a method without a choice."""
        study, cells = self.study, []
        for partition in study.partitions:
            for method, seed in product(study.methods, study.seeds[1:]):
                if (method, partition) in chosen:
                    cells.append(self.cell("federated", method, partition, seed, chosen[method, partition]))
            if study.references:
                scale = self.reference_scale(partition, chosen)
                for kind, seed in product(_REFERENCES, study.seeds):
                    cells.append(self.cell(kind, study.references, partition, seed, scale))
        return cells

    def reference_scale(self, partition: str, chosen: Choices) -> float:
        """References have no validation score: they take what was chosen for the same method, else 1."""
        assert self.study.references is not None
        wanted = same_method(self.study.references)
        return next((s for (m, p), s in chosen.items() if p == partition and same_method(m) == wanted), 1.0)

    def cell(self, kind: Mode, method: str, partition: str, seed: int, scale: float) -> Cell:
        federation = self.federations[partition, seed]
        config = _config(self.study, method, partition, seed, kind=kind, scale=scale, sites=federation.sites)
        return Cell(config, federation.partition.hash())


def make_plan(study: Study) -> Plan:
    """Check methods, partitions, data, backbone and strategy.

    Raises:
        ConfigError, DataError: as for a run with the same settings, with the method and partition in question.
    """
    federations, sizes = {}, {}
    for partition, seed in product(study.partitions, study.seeds):
        config = _config(study, study.methods[0], partition, seed)
        federations[partition, seed] = plan_federation(config)
    for (partition, seed), federation in federations.items():
        if len(study.learning_rate_scales) > 1 and not federation.partition.counts()[:, SPLITS.index("val")].sum():
            raise ConfigError(
                f"partition '{partition}', seed {seed}: no site has validation images, on which the learning rate is "
                "chosen. Set val-fraction under 'run', or give one entry in 'learning-rate-scales'."
            )
    for partition in study.partitions:
        federation = federations[partition, study.seeds[0]]
        for method in dict.fromkeys([*study.methods, *([study.references] if study.references else [])]):
            config = _config(study, method, partition, study.seeds[0], sites=federation.sites)
            planned = replace(federation, config=config)
            check_components(planned)
            sizes[method] = _size(planned)
    return Plan(study, federations, sizes)


def _config(
    study: Study,
    method: str,
    partition: str,
    seed: int,
    *,
    kind: Mode = "federated",
    scale: float = 1.0,
    sites: int | None = None,
) -> RunConfig:
    settings = study.settings(method) | {
        "method": method,
        "partition": partition,
        "seed": seed,
        "mode": kind,
        "references": "none",
        "learning-rate-scale": scale,
    }
    if kind != "federated":
        # Nothing of it leaves a site; it is what privacy is compared with.
        settings |= {"privacy": "off", "client-privacy": "off", "out-of-domain": ""}
    if study.partition_seeds == "per-seed":
        settings["partition-seed"] = seed
    try:
        config = read_settings(options=settings | ({} if sites is None else {"sites": sites}))
    except ConfigError as error:
        raise ConfigError(f"Method '{method}', partition '{partition}': {error}") from None
    # Where a run is written is decided when it is executed, and is no part of a cell.
    return config.model_copy(update={"runs_dir": "", "run_name": ""})


def _size(federation: Federation) -> Size:
    from fedmedpeft.backbones import load_record
    from server.joining import exchanged

    config = federation.config
    record = load_record(config.backbone, revision=config.backbone_revision, image_size=config.image_size)
    manifest, rotation = exchanged(config, record, planned_task(federation).classes)
    manifest = rotation.largest_part(manifest)
    return Size(manifest.numel("method"), manifest.numel("head"), manifest.nbytes)
