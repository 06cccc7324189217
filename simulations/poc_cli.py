"""``fedmedpeft poc``: a whole federation of real processes on this machine, and what it survives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.callback()
def _level() -> None:
    """Only there so that `poc` stays a command of its own."""


@app.command()
def poc(
    data: Annotated[
        str | None,
        typer.Option("--data", help="Data with a site column, of which each site takes its own rows; else phantoms."),
    ] = None,
    sites: Annotated[int, typer.Option(min=2, max=16, help="Number of sites, those with most images.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Federated rounds.")] = 3,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new directory for kits, states and logs, which is kept.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary directory (without --work).")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Nothing goes wrong: a first look, in a minute.")] = False,
) -> None:
    """A proof of concept before a deployment: the real server and sites, as processes on this machine, over TLS.

    \b
    What is shown, each line with its time:
      - kits for all parties; the server; sites that prove with their keys who they are; a stranger who is refused
      - a run; a site killed (kill -9) while it trains, and back; the server killed in a round, and the run resumed
      - each site's audit log verified, who took part when, and what a round costs beside the training itself

    Example: fedmedpeft poc --quick

    Example: fedmedpeft poc --data "manifest(path=labels.csv)" --work poc

    Everything listens on 127.0.0.1 only, and nothing is left running, after Ctrl-C neither. Takes some minutes without
    --quick: Flower needs one to notice that a site is gone. Exits with 1 where something did not happen as it should.
    """
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"
    from simulations.poc.plan import Plan
    from simulations.poc.showing import show
    from simulations.stopping import stopped_once

    plan = Plan.make(data or _phantoms(sites), sites, rounds, events=not quick)
    with stopped_once("Stopping everything that was started ..."):
        show(plan, work, typer.echo, keep=keep)


def _phantoms(sites: int) -> str:
    """Synthetic data with as many sites."""
    return f"phantoms(scanners={sites}, images={160 * sites})"
