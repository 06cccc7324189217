"""The root of the ``fedmedpeft`` command. Each room defines its own commands; they are imported when called."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup

from fedmedpeft import __version__

_ROOMS = {
    "run": "simulations.cli",
    "config": "simulations.cli",
    "methods": "simulations.cli",
    "estimate": "simulations.cli",
    "partition": "simulations.cli",
    "knowledge": "simulations.knowledge_cli",
    "evaluate": "simulations.cli",
    "merge": "simulations.cli",
    "compare": "simulations.cli",
    "privacy": "clients.privacy_cli",
    "audit": "simulations.audit_cli",
    "runs": "server.cli",
    "poc": "simulations.poc_cli",
    "provision": "server.provisioning.cli",
    "server": "server.server_cli",
    "site": "clients.site_cli",
    "audit-log": "clients.audit_log.cli",
    "data": "clients.data_cli",
}
"""Command -> the module whose ``app`` has it, in the order of ``--help``."""

_OURS = ("fedmedpeft", "clients", "server", "simulations")
BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
"""Exit codes beside 0."""


class LazyRoot(TyperGroup):
    """Finds commands by importing their room, and turns errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_ROOMS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ROOMS:
            from fedmedpeft.components import suggest

            ctx.fail(f"There is no command '{cmd_name}'.{suggest(cmd_name, _ROOMS)}")
        room = importlib.import_module(_ROOMS[cmd_name])
        return typer.main.get_group(room.app).get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException, BrokenPipeError):
            # A reader that has seen enough (`| head`) is no error: click ends quietly.
            raise
        except KeyboardInterrupt:
            typer.secho("Stopped.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            text, code = _explain(error)
            typer.secho(f"Error: {text}", fg=typer.colors.RED, err=True)
            raise typer.Exit(code) from None


def _explain(error: Exception) -> tuple[str, int]:
    """One line and the exit code: 2 for what the caller can mend, 1 for a run or program that failed."""
    from fedmedpeft.components import ConfigError
    from fedmedpeft.data.errors import DataError

    line = " ".join(str(error).split())
    if isinstance(error, ConfigError | DataError):
        return line, BAD_INPUT
    if type(error).__module__.partition(".")[0] in _OURS:
        return line, FAILED
    return f"{type(error).__name__}: {line} (`fedmedpeft --debug ...` shows where)", FAILED


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


app = typer.Typer(cls=LazyRoot, no_args_is_help=True, add_completion=False)


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Federated, parameter-efficient fine-tuning for hospitals.

    Start with `fedmedpeft run`: it simulates a federation on this machine, with generated images.
    """


def main() -> None:
    """The console script."""
    app()
