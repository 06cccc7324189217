"""``fedmedpeft site``: a hospital's side of a real federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# The root of the command finds `site` in this module, so there is a level around it.
app = typer.Typer()
site = typer.Typer(no_args_is_help=True, help="A hospital's side: check, start, and see what happens.")
app.add_typer(site, name="site")


@app.callback()
def _level() -> None:
    """Only there so that `site` stays a command of its own."""


_SiteFile = Annotated[Path, typer.Argument(metavar="SITE_YAML", help="The site's own configuration.")]
_AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
_GRACE = 60.0


@site.command()
def start(
    path: _SiteFile,
    once: Annotated[bool, typer.Option("--once", help="End (code 1) as soon as one process ends.")] = False,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that the worker has to finish its work when it is stopped.")
    ] = _GRACE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the same as plain commands, start nothing.")] = False,
) -> None:
    """Start this site: the worker, which has the data, and Flower's processes, which have the network.

    Example: fedmedpeft site start site.yaml

    Stays in the foreground until Ctrl-C or SIGTERM (a second one does not wait for the worker); as a service, let
    systemd start it. Each process is started again where it ends. All connections go out, to server.address only.
    """
    import os

    from clients.processes.start_command import show_commands, start_site

    if dry_run:
        show_commands(path, os.environ)
        return
    raise typer.Exit(start_site(path, once=once, grace=grace, environ=os.environ))


@site.command()
def status(path: _SiteFile, as_json: _AsJson = False) -> None:
    """What runs here, what it did last, and what privacy it has cost. Exits with 1 unless worker and connection are up.

    Example: fedmedpeft site status site.yaml
    """
    from clients.processes.status_command import read_status, show_status

    found = read_status(path)
    show_status(found, as_json=as_json)
    if not found.well:
        raise typer.Exit(1)


@site.command()
def check(
    path: _SiteFile,
    run_config: Annotated[
        Path | None,
        typer.Option(
            metavar="TOML", help="A run's configuration, as the coordinator announced it: would it be accepted?"
        ),
    ] = None,
    thorough: Annotated[bool, typer.Option("--thorough", help="Decode all images rather than a sample.")] = False,
    details: Annotated[bool, typer.Option("--details", help="Name files and paths; keep such a report here.")] = False,
    as_json: _AsJson = False,
) -> None:
    """Is everything here ready to take part? Trains nothing and sends no data. Exits with 1 where a check fails.

    Example: fedmedpeft site check site.yaml --run-config run.toml
    """
    from clients.preflight.command import check_command

    check_command(path, as_json, run_config, thorough=thorough, details=details)


@site.command("join-request")
def join_request(
    name: Annotated[str, typer.Option(help="This site's name in the federation.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the key and the request.")] = Path(),
) -> None:
    """Make this site's key here, and a request with its public half for the coordinator. The key never leaves.

    Example: fedmedpeft site join-request --name 'University Hospital' --out ~/federation
    """
    from clients.joining_request import make_join_request, next_steps

    for line in next_steps(make_join_request(name, out), out):
        typer.echo(line)


@site.command("hash")
def hash_(
    run_config: Annotated[
        Path, typer.Argument(metavar="RUN_TOML", help="A run's configuration, as announced, or a run's directory.")
    ],
    site: Annotated[
        Path | None, typer.Option("--site", metavar="SITE_YAML", help="Say also what this site's policy says to it.")
    ] = None,
) -> None:
    """The hash of a run's configuration, for policy.approved-runs in site.yaml. Exits with 1 where --site refuses it.

    Example: fedmedpeft site hash run.toml --site site.yaml
    """
    from clients.egress.hash_command import hash_command

    hash_command(run_config, site)
