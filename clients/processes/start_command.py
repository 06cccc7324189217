"""``fedmedpeft site start``: the site's processes, until they are stopped."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path

import typer

from clients.processes.flower_account import check_separation, flower_account, prepare_flower_home
from clients.processes.programs import write_programs
from clients.processes.site_processes import (
    MARKER,
    flower_commands,
    flower_processes_environment,
    programs_directory,
    site_processes,
    worker_command,
)
from clients.site_file import SiteFile
from fedmedpeft.components import ConfigError
from fedmedpeft.file_lock import locked
from fedmedpeft.site_identity import read_private_key
from fedmedpeft.supervision import Account, Supervisor
from fedmedpeft.supervision.leftovers import end_processes, processes_with

RECORD, LOCK = "processes.json", "start.lock"


def start_site(file: Path, *, once: bool, grace: float, environ: Mapping[str, str]) -> int:
    """Until it is stopped; the exit code.

    Raises:
        ConfigError: something in ``site.yaml`` or on this machine is not as it must be; nothing was started.
    """
    os.umask(0o077)
    site = SiteFile.load(file)
    _check_files(site)
    account = flower_account(site)
    try:
        with locked(site.state_directory / LOCK, wait=False):
            prepare_flower_home(site, account)
            write_programs(programs_directory(site))
            # A supervisor that was killed leaves its processes behind; two workers must never spend one budget.
            marker = f"{MARKER}={site.state_directory}"
            end_processes(lambda: processes_with(marker), 0.0)
            _announce(site, account, environ)
            children = site_processes(site, file, environ, account, grace)
            return Supervisor(children, _say, site.state_directory / RECORD, once=once).run()
    except BlockingIOError:
        raise ConfigError(
            f"Site '{site.site}' is started already (its lock: '{site.state_directory / LOCK}'). `fedmedpeft site "
            f"status {file}` shows it; stop that one first."
        ) from None


def show_commands(file: Path, environ: Mapping[str, str]) -> None:
    """The same by hand: for a shell each."""
    site = SiteFile.load(file)
    node, executor = flower_commands(site, str(site.path(site.server.key)))
    typer.echo("# The worker, which has the data:")
    typer.echo(shlex.join(worker_command(file)))
    typer.echo("\n# Flower's two processes, each in a shell with:")
    for name, value in flower_processes_environment(site, environ).items():
        if environ.get(name) != value:
            typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo(f"cd {shlex.quote(str(site.folder('flower')))}")
    typer.echo(f"{shlex.join(node)}\n{shlex.join(executor)}")
    typer.echo("\n# `fedmedpeft site start` makes state/superexec.secret and state/programs, once.")


def _check_files(site: SiteFile) -> None:
    """What Flower would only complain about in its own words. Raises ConfigError."""
    for key, text in (("server.ca-certificate", site.server.ca_certificate), ("server.key", site.server.key)):
        path = site.path(text)
        if not path.is_file():
            raise ConfigError(f"{key}='{path}' is no file. `fedmedpeft site check` looks at everything before a start.")
    read_private_key(site.path(site.server.key))


def _announce(site: SiteFile, account: Account | None, environ: Mapping[str, str]) -> None:
    _say(f"site '{site.site}', server {site.server.address}; logs in {site.folder('logs')}")
    if account is None:
        _say(
            "Flower's processes run as the same user as the worker. To have the operating system keep them from the "
            "data, set worker.flower-user and start as root."
        )
        return
    kept = check_separation(site, account, flower_processes_environment(site, environ))
    _say(f"Flower's processes run as '{account.name}', which was tried and cannot read: {', '.join(kept)}")


def _say(line: str) -> None:
    typer.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")
