"""Reads run directories into rows: one per run, and one per run and site."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from fedmedpeft.tasks import Task
from simulations.study.cell import Cell
from simulations.study.cell_directory import CellDirectory
from simulations.study.plan import Choices, Plan
from simulations.study.run_privacy import RunPrivacy
from simulations.study.search import final_validation

Status = Literal["completed", "failed", "not run"]


@dataclass(frozen=True)
class Score:
    """Test metric of one model: mean over sites (each counting once), lowest, and whose that is; means of others."""

    mean: float = math.nan
    worst: float = math.nan
    worst_site: str = ""
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRow:
    """One run of a study. Bytes are as measured in the run; ``nan`` where there is nothing."""

    cell: Cell
    chosen: bool
    status: Status
    reason: str
    run: Path
    seconds: float
    validation: tuple[float, float] = (math.nan, math.nan)
    test: Score = Score()
    personalised: Score = Score()
    bytes_up: float = math.nan
    """Of one site in one round, from the site to the server."""
    bytes_down: float = math.nan
    total_bytes: float = math.nan
    seconds_per_round: float = math.nan
    privacy: RunPrivacy = field(default_factory=RunPrivacy)


def read_runs(plan: Plan, out: Path, chosen: Choices) -> list[RunRow]:
    """Every run of the study, those of the search included, in the order in which they are run."""
    rows = []
    for cell in (*plan.first(), *plan.rest(chosen)):
        counts = cell.kind != "federated" or chosen.get((cell.method, cell.partition)) == cell.scale
        rows.append(_row(CellDirectory(out, cell), counts, plan.task))
    return rows


def run_columns(row: RunRow, plan: Plan) -> dict[str, Any]:
    """One line of ``results.csv``."""
    cell, size, primary = row.cell, plan.sizes[row.cell.method], plan.task.primary
    federated = cell.kind == "federated"
    return {
        "kind": cell.kind,
        "method": cell.method,
        "partition": cell.partition,
        "seed": cell.seed,
        "scale": cell.scale,
        "chosen": str(row.chosen).lower(),
        "status": row.status,
        "method_parameters": size.method_parameters if federated else "",
        "head_parameters": size.head_parameters if federated else "",
        "payload_bytes": size.payload_bytes if federated else "",
        "bytes_up_per_site_round": row.bytes_up,
        "bytes_down_per_site_round": row.bytes_down,
        "total_bytes": row.total_bytes,
        f"val_{primary}": row.validation[0],
        f"worst_val_{primary}": row.validation[1],
        f"test_{primary}": row.test.mean,
        f"worst_test_{primary}": row.test.worst,
        "worst_site": row.test.worst_site,
        **{f"test_{metric}": row.test.others.get(metric, math.nan) for metric in plan.task.secondary},
        f"personalised_test_{primary}": row.personalised.mean,
        f"worst_personalised_test_{primary}": row.personalised.worst,
        **row.privacy.columns(),
        "seconds": row.seconds,
        "seconds_per_round": row.seconds_per_round,
        "run": f"runs/{row.run.name}" if row.status == "completed" else "",
        "reason": row.reason,
    }


def site_columns(row: RunRow, summary: Mapping[str, Any], task: Task) -> list[dict[str, Any]]:
    """Lines of ``sites.csv``: the test metrics of each site, by each model that the run has."""
    cell, lines = row.cell, []
    for model, result in _results(summary).items():
        for site, metrics in result.get("sites", {}).items():
            line: dict[str, Any] = {"kind": cell.kind, "method": cell.method, "partition": cell.partition}
            line |= {"seed": cell.seed, "scale": cell.scale, "chosen": str(row.chosen).lower()}
            line |= {"model": model, "site": site, "samples": metrics.get("samples", ""), "loss": metrics.get("loss")}
            lines.append(line | {name: metrics.get(name) for name in task.metrics})
    return lines


def _row(directory: CellDirectory, chosen: bool, task: Task) -> RunRow:
    cell, state, outcome = directory.cell, directory.state(), directory.outcome()
    status: Status = "not run" if state == "open" else state
    begun = RunRow(cell, chosen, status, outcome.reason, directory.run, outcome.seconds or math.nan)
    if state != "completed":
        return begun
    summary = directory.summary()
    results, traffic = _results(summary), summary.get("traffic", {})
    up, down = _bytes_per_visit(directory.run)
    return RunRow(
        cell,
        chosen,
        status,
        "",
        directory.run,
        outcome.seconds or math.nan,
        validation=final_validation(directory.run, task.primary),
        test=_score(results.get(cell.kind, {}), task),
        personalised=_score(results.get("personalised", {}), task),
        bytes_up=up,
        bytes_down=down,
        total_bytes=traffic.get("up_bytes", math.nan) + traffic.get("down_bytes", math.nan),
        seconds_per_round=_seconds_per_round(directory.run),
        privacy=RunPrivacy.of(summary),
    )


def _results(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    results = summary.get("results")
    return results if isinstance(results, Mapping) else {}


def _score(result: Mapping[str, Any], task: Task) -> Score:
    if not result:
        return Score()
    sites = result["sites"].values()
    others = {
        metric: _mean([site[metric] for site in sites if site.get(metric) is not None]) for metric in task.secondary
    }
    mean, worst = (math.nan if result[key] is None else result[key] for key in ("mean", "worst"))
    return Score(mean, worst, result["worst_site"], others)


def _bytes_per_visit(run: Path) -> tuple[float, float]:
    """Up and down, mean over all visits in which a site trained and was heard."""
    visits = [row for row in _lines(run / "sites.csv") if row["outcome"] == "accepted"]
    return _mean([float(row["bytes_up"]) for row in visits]), _mean([float(row["bytes_down"]) for row in visits])


def _seconds_per_round(run: Path) -> float:
    """Median, since the first round also loads and decodes."""
    seconds = [float(row["seconds"]) for row in _lines(run / "rounds.csv") if row["round"] != "0" and row["seconds"]]
    return median(seconds) if seconds else math.nan


def _lines(path: Path) -> Sequence[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
