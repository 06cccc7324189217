"""Writes what comes of a study, each file replaced as a whole."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmedpeft.atomic_file import write_atomically
from simulations.study.cell_directory import CellDirectory
from simulations.study.method_summary import PartitionSummary, summarise
from simulations.study.plan import Plan
from simulations.study.results import RunRow, read_runs, run_columns, site_columns
from simulations.study.runner import choices
from simulations.study.table import markdown


def write_report(plan: Plan, out: Path) -> list[RunRow]:
    """``results.csv``, ``sites.csv``, ``table.md``, ``plot.png`` and ``plot.svg`` from what is in ``out`` by now.

    Returns:
        All runs, for whoever wants to know how they went.
    """
    rows = read_runs(plan, out, choices(plan, out))
    write_atomically(out / "results.csv", _csv([run_columns(row, plan) for row in rows]))
    sites = [
        line
        for row in rows
        if row.status == "completed"
        for line in site_columns(row, CellDirectory(out, row.cell).summary(), plan.task)
    ]
    write_atomically(out / "sites.csv", _csv(sites))
    summaries = summarise(plan, rows)
    write_atomically(out / "table.md", markdown(plan, summaries, rows))
    for summary in summaries:
        _plot(plan, summary, out)
    return rows


def _plot(plan: Plan, summary: PartitionSummary, out: Path) -> None:
    from simulations.study.plot import draw

    several = len(plan.study.partitions) > 1
    suffix = "-" + re.sub(r"[^A-Za-z0-9.]+", "-", summary.partition).strip("-") if several else ""
    synthetic = " (SYNTHETIC data)" if plan.synthetic else ""
    title = f"{plan.study.name}, partition {summary.partition}{synthetic}"
    for kind, content in draw(title, summary, plan.task).items():
        write_atomically(out / f"plot{suffix}.{kind}", content)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.9g}" if math.isfinite(value) else ""
    return "" if value is None else value
