"""What ``fedmedpeft run`` does around the launch: checks first, says what will happen, tells how it ended."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import typer

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from simulations.environment import flower_home, flower_settings
from simulations.launch import Launch, run
from simulations.preflight import PARTITION_FILE, Federation, check_components, plan_federation
from simulations.stopping import stopped_once
from simulations.superlink import LaunchError


def run_command(
    config: RunConfig, cpus_per_site: int, gpus_per_site: float, *, online: bool, verbose: bool, dry_run: bool
) -> None:
    """Check ``config``, start it, and show it.

    Raises:
        ConfigError, DataError: something is wrong with what was asked for; nothing was started.
        LaunchError: the run did not complete.
    """
    cores = os.cpu_count() or 1
    if cpus_per_site > cores:
        raise ConfigError(f"--cpus-per-site {cpus_per_site}: this machine has {cores} cores. Ask for no more.")
    os.environ["HF_HUB_OFFLINE"] = "0" if online else "1"
    federation = plan_federation(config)
    check_components(federation)
    launch = Launch(federation.config, federation.sites, cpus_per_site, gpus_per_site, online)
    if dry_run:
        _show(launch)
        return
    typer.echo(_announcement(federation))
    with stopped_once("Stopping the run and Flower's processes ..."):
        outcome = run(launch, typer.echo, verbose=verbose)
    if outcome.directory is None:
        raise LaunchError(f"{outcome.reason} (log: {outcome.log})")
    federation.partition.save(outcome.directory / PARTITION_FILE)


def _announcement(federation: Federation) -> str:
    config = federation.config
    steps = f"{config.rounds} rounds of {config.local_steps} local steps"
    what = f"{config.method} on backbone {config.backbone}, {steps}, {federation.sites} sites ({config.partition})"
    return (
        f"Data: {federation.source.description}\nRun: {config.mode}, {what}\n"
        "Starting Flower's simulation, which takes about half a minute ..."
    )


def _show(launch: Launch) -> None:
    """The command and what its environment has beyond this one, ready for a shell."""
    session = flower_home(os.environ) / "launches" / "NEW"
    settings = flower_settings(os.environ, session, Path("NEW-TEMPORARY-DIRECTORY"), online=launch.online)
    for name, value in settings.items():
        if os.environ.get(name) != value:
            typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo(f"cd {shlex.quote(str(session / 'cwd'))}")
    typer.echo(shlex.join(launch.command(session)))
    typer.echo("# run-config.toml")
    for key, setting in launch.config.to_mapping().items():
        typer.echo(f"# {key} = {setting!r}")
