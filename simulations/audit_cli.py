"""``fedmedpeft audit``: attacks on a run's own configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import click
import typer

from simulations import options
from simulations.audit.attacks import ATTACKS

# The root of the command finds `audit` in this module, so there is a level around it.
app = typer.Typer()
_HELP = """
Attack this configuration at one simulated site, and write a page about what was found.

Membership inference on released adapters, canaries that bound epsilon from below, and reconstruction of images from
updates; without privacy, and with it at the configured epsilon. It reads one site's data and sends nothing. The page
may show patients' images. The exit code is 1 where an attack contradicts the promised epsilon.

Examples:

  fedmedpeft audit

  fedmedpeft audit --config runs/skin/config.toml --site clinic-b --epsilon 1 --out audits/clinic-b

  fedmedpeft audit --method head --attack membership --attack canaries --effort full
"""


@app.callback()
def _level() -> None:
    """Only there so that `audit` stays a command of its own."""


@app.command(help=_HELP)
def audit(
    method: options.Method = None,
    task: options.Task = None,
    data: options.Data = None,
    partition: options.Partition = None,
    backbone: options.Backbone = None,
    rounds: options.Rounds = None,
    sites: options.Sites = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run and of the attacks.")] = None,
    assignments: options.Assignments = None,
    file: options.ConfigFile = None,
    privacy: Annotated[
        str | None, typer.Option("--privacy", help="off, 'required(epsilon=8)', ...; else as the configuration says.")
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(min=0.0, help="Budget in place of the configured one; 0: without privacy only.")
    ] = None,
    site: Annotated[str | None, typer.Option("--site", help="Whose data to attack; else the first.")] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option("--attack", click_type=click.Choice(list(ATTACKS)), help="Only this; may be given many times."),
    ] = None,
    effort: Annotated[
        str, typer.Option(click_type=click.Choice(["quick", "full"]), help="quick: minutes; full: an hour or more.")
    ] = "quick",
    shadows: Annotated[
        int | None, typer.Option(min=4, help="Models that membership inference trains, of each kind; else by effort.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the page goes; else audits/<site>.")
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="Let a backbone be fetched from the hub.")] = False,
) -> None:
    from simulations.audit.audit_command import audit_command
    from simulations.settings import read_settings

    given = {
        "method": method,
        "task": task,
        "data": data,
        "partition": partition,
        "backbone": backbone,
        "rounds": rounds,
        "sites": sites,
        "seed": seed,
        "privacy": privacy,
    }
    audit_command(
        read_settings(file, assignments or (), given),
        site=site,
        epsilon=epsilon,
        attacks=tuple(dict.fromkeys(attack or ATTACKS)),
        effort=cast(Literal["quick", "full"], effort),
        shadows=shadows or 0,
        out=out,
        online=online,
    )
