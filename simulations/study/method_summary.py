"""What a study says of each method: its runs put together over the seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedmedpeft.components import parse_composition
from simulations.study.plan import Plan, Size
from simulations.study.results import RunRow
from simulations.study.run_privacy import RunPrivacy
from simulations.study.statistics import Interval, Slope, interval, pareto_front, slope_per_decade


@dataclass(frozen=True)
class MethodSummary:
    """One method on one partition, at its chosen scale, over the seeds whose runs completed."""

    method: str
    size: Size
    scale: float
    """``nan`` where none could be chosen."""
    bytes_up: float
    """Per site and round, mean of the seeds."""
    mean: Interval
    worst: Interval
    personalised: Interval
    seconds_per_round: float
    failed: int
    """Runs, those of the search included."""
    privacy: RunPrivacy = field(default_factory=RunPrivacy)
    """The worst of the seeds."""
    on_front: bool = False

    @property
    def has_full_fine_tuning(self) -> bool:
        return any(spec.name == "full" for spec in parse_composition(self.method))


@dataclass(frozen=True)
class ReferenceSummary:
    """Training without a federation, over the seeds."""

    kind: str
    mean: Interval
    worst: Interval
    failed: int


@dataclass(frozen=True)
class PartitionSummary:
    """One partition: methods by rising bytes (those without a result last), references by kind."""

    partition: str
    methods: Sequence[MethodSummary]
    references: Mapping[str, ReferenceSummary]

    @property
    def front(self) -> list[MethodSummary]:
        return [method for method in self.methods if method.on_front]

    def below_local_only(self) -> list[tuple[MethodSummary, float]]:
        """Methods whose mean is lower than that of training alone, and by how much."""
        alone = self.references.get("local-only")
        if alone is None:
            return []
        gaps = [(method, alone.mean.mean - method.mean.mean) for method in self.methods]
        return [(method, gap) for method, gap in gaps if gap > 0]

    def slope(self, *, with_full: bool) -> Slope:
        """Points (hundredths) of the test metric per decade of exchanged parameters, head included."""
        counted = [method for method in self.methods if with_full or not method.has_full_fine_tuning]
        return slope_per_decade(
            [(m.size.method_parameters + m.size.head_parameters, 100 * m.mean.mean) for m in counted]
        )


def summarise(plan: Plan, rows: Sequence[RunRow]) -> list[PartitionSummary]:
    """One summary per partition. Runs of the search that were not chosen count for ``failed`` only."""
    summaries = []
    for partition in plan.study.partitions:
        here = [row for row in rows if row.cell.partition == partition]
        methods = [_method(plan.sizes[m], m, [r for r in here if r.cell.group == m]) for m in plan.study.methods]
        front = pareto_front([(method.bytes_up, method.mean.mean) for method in methods])
        marked = [replace(method, on_front=index in front) for index, method in enumerate(methods)]
        marked.sort(key=lambda m: (math.isnan(m.bytes_up), m.bytes_up, m.size.payload_bytes, m.method))
        kinds = dict.fromkeys(row.cell.kind for row in here if row.cell.kind != "federated")
        references: dict[str, ReferenceSummary] = {
            kind: _reference(kind, [row for row in here if row.cell.kind == kind]) for kind in kinds
        }
        summaries.append(PartitionSummary(partition, marked, references))
    return summaries


def _method(size: Size, method: str, rows: Sequence[RunRow]) -> MethodSummary:
    counted = [row for row in rows if row.chosen and row.status == "completed"]
    return MethodSummary(
        method=method,
        size=size,
        scale=next((row.cell.scale for row in rows if row.chosen), math.nan),
        bytes_up=interval([row.bytes_up for row in counted]).mean,
        mean=interval([row.test.mean for row in counted]),
        worst=interval([row.test.worst for row in counted]),
        personalised=interval([row.personalised.mean for row in counted]),
        seconds_per_round=interval([row.seconds_per_round for row in counted]).mean,
        failed=sum(row.status == "failed" for row in rows),
        privacy=RunPrivacy.over([row.privacy for row in counted]),
    )


def _reference(kind: str, rows: Sequence[RunRow]) -> ReferenceSummary:
    counted = [row for row in rows if row.status == "completed"]
    mean, worst = interval([row.test.mean for row in counted]), interval([row.test.worst for row in counted])
    return ReferenceSummary(kind, mean, worst, sum(row.status == "failed" for row in rows))
