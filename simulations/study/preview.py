"""What a study would run, and what that would move over the wire."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from fedmedpeft.console_table import show_table
from simulations.estimate import estimate
from simulations.study.cell import Cell
from simulations.study.cell_directory import CellDirectory
from simulations.study.plan import Choices, Plan
from simulations.study.runner import choices
from simulations.study.study_file import same_method

# Enough for the mean of a method that exchanges another part of itself in every round.
_ROUNDS = 4


def show(plan: Plan, out: Path) -> None:
    """Print methods with their bytes, then cells with their state."""
    study, partition = plan.study, plan.study.partitions[0]
    rows = [(method, *_cost(plan, method, partition)) for method in study.methods]
    columns = ("method", "method parameters", "head", "bytes of a state", "bytes up", "bytes down")
    show_table("What one site sends (up) and gets (down) in one round", columns, rows)
    first, chosen = plan.first(), choices(plan, out)
    # Until a scale is chosen, the first of the grid holds its place.
    places = {(m, p): study.learning_rate_scales[0] for m in study.methods for p in study.partitions}
    cells = [*first, *plan.rest(places | chosen)]
    known = {*first, *(cell for cell in cells if _is_settled(plan, cell, chosen))}
    lines = [_line(number, cell, out, known=cell in known) for number, cell in enumerate(cells, 1)]
    titles = ("run", "kind", "method", "partition", "seed", "scale", "state")
    show_table(f"Runs of the study in {out}", titles, lines)
    grid = ", ".join(f"{scale:g}" for scale in study.learning_rate_scales)
    typer.echo(f"{sum(plan.runs.values())} runs, {len(first)} of them for the choice among the scales {grid}.")


def _cost(plan: Plan, method: str, partition: str) -> tuple[str, ...]:
    size, seed = plan.sizes[method], plan.study.seeds[0]
    cell = plan.cell("federated", method, partition, seed, plan.study.learning_rate_scales[0])
    few = cell.config.model_copy(update={"rounds": min(cell.config.rounds, _ROUNDS), "sampling_fraction": 1.0})
    found = estimate(replace(plan.federations[partition, seed], config=few))
    each = found.phases["rounds"]
    numbers = (size.method_parameters, size.head_parameters, size.payload_bytes)
    visits = found.sites * found.rounds
    up, down = each.up // visits, each.down // visits
    return tuple(f"{number:,}" for number in (*numbers, up, down))


def _is_settled(plan: Plan, cell: Cell, chosen: Choices) -> bool:
    """Whether the scale is known: it was chosen, or the method takes no part in the search."""
    same = [method for method in plan.study.methods if same_method(method) == same_method(cell.method)]
    return all((method, cell.partition) in chosen for method in same)


def _line(number: int, cell: Cell, out: Path, *, known: bool) -> tuple[str, ...]:
    scale = f"{cell.scale:g}" if known else "as chosen"
    state = CellDirectory(out, cell).state() if known else "open"
    return (str(number), cell.kind, cell.method, cell.partition, str(cell.seed), scale, state)
