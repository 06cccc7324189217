"""What is left at the end: each site's own record, what the run left, and the table of its rounds."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from clients.audit_log.audit_log import read_log
from clients.processes.status_command import read_status
from server.run_state import CHECKPOINTS
from simulations.poc.errors import PocError
from simulations.poc.figures import HEADINGS, read_figures, table_rows, usual_overhead
from simulations.poc.plan import Plan
from simulations.poc.play import Play
from simulations.poc.signs import answered_rounds
from simulations.poc.stage import Stage
from simulations.poc.teller import Teller

_WIDTH = 160
_DIGITS = 16


def tell_sites(stage: Stage, teller: Teller) -> None:
    """What `fedmedpeft site status` and `fedmedpeft audit-log verify` say at each site, in a line.

    Raises:
        PocError: a site is not well.
        AuditLogError: a log is not as it was written.
    """
    for name, file in stage.sites.items():
        status, log = read_status(file), read_log(stage.site(name).audit_log)
        if not status.well:
            raise PocError(f"{name} is not well at the end: `fedmedpeft site status {file}`.")
        restarts = sum(int(process["restarts"]) for process in status.processes.values())
        teller.say(
            f"site status: worker up, connected, {restarts} restarts; audit-log verify: {log.chain.lines} lines, as "
            f"they were written, last hash {log.chain.last[:_DIGITS]}",
            name,
        )


def tell_rounds(plan: Plan, play: Play, stage: Stage, teller: Teller) -> None:
    """The table, and the overhead."""
    answered = {name: answered_rounds(stage.site(name)) for name in plan.sites}
    figures = read_figures(stage.run_directory, answered)
    label = "SYNTHETIC data" if plan.synthetic else plan.description
    for line in _table(f"{plan.rounds} rounds, {len(plan.sites)} sites, {label}", table_rows(figures, play.notes)):
        teller.say(line)
    usual = usual_overhead(figures)
    teller.say("Overhead is the round's time at the server minus the slowest site's own training and evaluation.")
    if not math.isnan(usual):
        teller.say(f"Round overhead where nothing happened: {usual:.1f} s.")


def tell_result(stage: Stage, teller: Teller, *, kept: bool) -> None:
    """Where the result lies. Raises PocError where there is none."""
    adapter = stage.run_directory / "adapter"
    if not adapter.is_dir():
        raise PocError(f"The run completed, and there is no '{adapter}'.")
    size = sum(path.stat().st_size for path in adapter.rglob("*") if path.is_file())
    where = f"in {adapter}" if kept else "and is removed with everything else now; --keep or --work DIR keeps it"
    teller.say(f"The adapter has {size:,} bytes {where}.")
    if kept:
        teller.say(f"Beside it: rounds.csv, sites.csv, MODEL_CARD.md, {CHECKPOINTS}/. Kits and states of all: kits/.")


def _table(title: str, rows: Iterable[Sequence[str]]) -> list[str]:
    table = Table(header_style="bold")
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if index in (1, 3, 4) else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    console = Console(file=text, width=_WIDTH, markup=False, highlight=False)
    console.print(title, soft_wrap=True)
    console.print(table)
    return text.getvalue().splitlines()
