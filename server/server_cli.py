"""``fedmedpeft server``: the server of a real federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# The root of the command finds `server` in this module, so there is a level around it.
app = typer.Typer()
server = typer.Typer(
    no_args_is_help=True, help="The server of a real federation: start it, submit runs, see its sites."
)
app.add_typer(server, name="server")


@app.callback()
def _level() -> None:
    """Only there so that `server` stays a command of its own."""


_Kit = Annotated[
    Path, typer.Option("--kit", metavar="DIR", help="The server's kit, as `fedmedpeft provision` makes it.")
]
_KIT = Path("kits/server")
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the same as plain commands, do nothing.")]


@server.command()
def start(
    kit: _Kit = _KIT,
    host: Annotated[str | None, typer.Option(help="Address to listen on; else that of the kit's server.yaml.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; else that of server.yaml.")] = None,
    once: Annotated[bool, typer.Option("--once", help="End (code 1) as soon as one process ends.")] = False,
    dry_run: _DryRun = False,
) -> None:
    """Start the server: Flower's SuperLink (TLS, registered sites only, a database), and the SuperExec for the app.

    Example: fedmedpeft server start --kit kits/server

    Stays in the foreground until Ctrl-C or SIGTERM. Both are started again where they end, and the kit's sites are
    registered. Keep its port on loopback, behind the kit's nginx: who reaches it controls every run.
    """
    import os

    from server.processes.kit import ServerKit
    from server.processes.start_command import show_commands, start_server

    found = ServerKit.open(kit, host, port)
    if dry_run:
        show_commands(found, os.environ)
        return
    raise typer.Exit(start_server(found, os.environ, once=once))


@server.command()
def register(kit: _Kit = _KIT) -> None:
    """Register the sites that were added to the kit, and remove revoked ones, while the server runs.

    Example: fedmedpeft server register --kit kits/server
    """
    from server.processes.control import register_sites
    from server.processes.kit import ServerKit

    if not register_sites(ServerKit.open(kit), typer.echo):
        raise typer.Exit(1)


@server.command()
def submit(
    config: Annotated[Path, typer.Argument(metavar="RUN_TOML", help="The run's configuration (`fedmedpeft config`).")],
    kit: _Kit = _KIT,
    resume: Annotated[str, typer.Option(metavar="NAME", help="Go on with this interrupted run.")] = "",
    follow: Annotated[bool, typer.Option("--follow", help="Show its progress, and wait for its end.")] = False,
    dry_run: _DryRun = False,
) -> None:
    """Start a run at all sites. With --follow the exit code says whether it completed; Ctrl-C then stops the run.

    Example: fedmedpeft server submit run.toml --follow

    Hospitals decide on their own whether they accept it; send them the file first (`fedmedpeft site check
    --run-config`). Results are written below runs/ in the kit, unless runs-dir is an absolute path.
    """
    from server.processes.kit import ServerKit
    from server.processes.submit_command import read_run, show_submission
    from server.processes.submit_command import submit as hand_over

    found = ServerKit.open(kit)
    run = read_run(config, found, resume)
    if dry_run:
        show_submission(found, run)
        return
    number = hand_over(found, run, typer.echo, follow=follow)
    if not follow:
        typer.echo(
            f"Run {number} was submitted; its results go to {run.runs_dir}. `fedmedpeft server status` shows it."
        )


@server.command()
def status(kit: _Kit = _KIT, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Is the server up, which sites are online, and how runs fare. Exits with 1 where it does not answer.

    Example: fedmedpeft server status --kit kits/server
    """
    from server.processes.kit import ServerKit
    from server.processes.status_command import read_status, show_status

    found = read_status(ServerKit.open(kit))
    show_status(found, as_json=as_json)
    if not found.healthy:
        raise typer.Exit(1)


@server.command()
def stop(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Number of a run, as `status` shows it.")], kit: _Kit = _KIT
) -> None:
    """Stop a run. What it has finished so far is kept; `submit --resume` can go on with it.

    Example: fedmedpeft server stop 1234567890
    """
    from server.processes.kit import ServerKit
    from server.processes.submit_command import stop_run

    stop_run(ServerKit.open(kit), run)
    typer.echo(f"Run {run} was stopped.")
