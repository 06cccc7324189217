"""``fedmedpeft evaluate``: a saved adapter on data."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from simulations import options

if TYPE_CHECKING:
    from fedmedpeft.tasks import Task
    from simulations.evaluate import SiteEvaluation
    from simulations.preflight import Federation
    from simulations.saved_run import Kept, SavedRun


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN_OR_ADAPTER", help="A run's directory, or its adapter/.")],
    data: options.Data = None,
    partition: options.Partition = None,
    sites: options.Sites = None,
    backbone: options.Backbone = None,
    split: Annotated[str, typer.Option(click_type=click.Choice(["train", "val", "test"]))] = "test",
    personal: Annotated[
        bool, typer.Option("--personal", help="With the parts that stayed at each site, where they are in the run.")
    ] = False,
    own: Annotated[
        bool,
        typer.Option("--own", help="Each site's own model, fine-tuned after the last round, where it is in the run."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    assignments: options.Assignments = None,
    as_json: options.AsJson = False,
) -> None:
    """A saved adapter on the data of its run or on other data: per site, and on all images together.

    A backbone with another fingerprint than the run's is refused.

    Examples:

      fedmedpeft evaluate runs/lora-phantoms-20260102-030405

      fedmedpeft evaluate runs/lora-phantoms-20260102-030405 --own

      fedmedpeft evaluate runs/skin/adapter --data 'folder(path=new-clinic)' --partition iid --sites 1
    """
    from simulations.evaluate import evaluate_run
    from simulations.saved_run import SavedRun

    run = SavedRun.find(path)
    federation = _federation(run, {"data": data, "partition": partition, "sites": sites}, assignments or ())
    kept: Kept = "own" if own else "personal" if personal else "nothing"
    task = run.task()
    results = evaluate_run(run, federation, split=split, backbone=backbone, device=device, kept=kept)
    if as_json:
        typer.echo(json.dumps({r.site: _plain(r, task) for r in results}, indent=2))
        return
    here = federation.config.knowledge or "none"
    if trained := run.knowledge_lacking(federation.config):
        typer.echo(f"The adapter was trained with knowledge='{trained}', here there is {here}.")
    _show(results, task, f"{federation.source.description}; {split} {task.unit}", run.personal_of_adapter(), kept)


def _federation(run: SavedRun, given: dict[str, str | int | None], assignments: Sequence[str]) -> Federation:
    """The data to evaluate on: what ``given`` and ``assignments`` say, and otherwise the run's, divided as it was."""
    from simulations.preflight import plan_federation
    from simulations.settings import read_settings

    if given["data"] is None and not any(text.partition("=")[0].strip() == "data" for text in assignments):
        run.check_data()
    elsewhere = given["data"] is not None or given["partition"] is not None
    as_in_the_run = not elsewhere and not assignments
    if elsewhere and given["sites"] is None:
        given = given | {"sites": 0}
    if as_in_the_run:
        given = given | {"partition": run.partition_spec()}
    federation = plan_federation(
        read_settings(None, assignments, given, start=run.config().to_mapping() | {"min-sites": 1})
    )
    if as_in_the_run and given["sites"] is None:
        run.check_partition(federation.partition)
    return federation


def _show(results: list[SiteEvaluation], task: Task, title: str, stayed: tuple[str, ...], kept: Kept) -> None:
    from fedmedpeft.console_table import show_table

    rows = []
    for result in results:
        found = result.evaluation
        values = [found.loss, *(found.metrics.get(metric, math.nan) for metric in task.metrics)]
        model = [kept if result.kept else "shared"] if kept != "nothing" else []
        rows.append([result.site, str(found.samples), *(f"{value:.3f}" for value in values), *model])
    columns = ["site", task.unit, "loss", *(metric.replace("_", " ") for metric in task.metrics)]
    show_table(title, [*columns, *(["model"] if kept != "nothing" else [])], rows)
    if skipped := results[-1].skipped:
        typer.echo(f"{skipped} {task.unit} could not be read and are not counted.")
    if kept != "nothing" and not results[-1].kept:
        typer.echo("Nothing of that kind is in the run's directory: these are the scores of the shared model.")
    if results[-1].kept:
        typer.echo("Each site was scored by a model of its own; the union joins their predictions.")
    if stayed and not results[-1].kept:
        typer.echo(f"In this run {', '.join(stayed)} stayed at the sites; here it is as it was before training.")


def _plain(result: SiteEvaluation, task: Task) -> dict[str, object]:
    facts = {name: value for name, value in asdict(result.evaluation).items() if name != "counts"}
    counts = task.show_counts(result.evaluation.counts)
    return {**facts, **counts, "kept": result.kept, "skipped": result.skipped}
