"""``fedmedpeft server status``: is it up, which sites are there, which runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import typer

from fedmedpeft.console_table import show_table
from server.processes.control import Site, as_record, is_healthy, list_sites
from server.processes.kit import ServerKit
from server.processes.submit_command import list_runs

_RUNS = 10


@dataclass(frozen=True)
class ServerStatus:
    """What the server says of itself; sites and runs are empty where it does not answer."""

    address: str
    healthy: bool
    sites: list[Site]
    runs: list[dict[str, Any]]

    @property
    def online(self) -> int:
        return sum(site.status == "online" for site in self.sites)


def read_status(kit: ServerKit) -> ServerStatus:
    """Raises ServerError where it goes away meanwhile."""
    if not is_healthy(kit):
        return ServerStatus(kit.address, False, [], [])
    sites = [site for site in list_sites(kit) if site.status != "unregistered"]
    return ServerStatus(kit.address, True, sites, list_runs(kit)[:_RUNS])


def show_status(status: ServerStatus, *, as_json: bool) -> None:
    if as_json:
        sites = [as_record(site) for site in status.sites]
        content = {"address": status.address, "healthy": status.healthy, "sites": sites, "runs": status.runs}
        typer.echo(json.dumps(content, indent=2))
        return
    if not status.healthy:
        typer.echo(f"The server at {status.address} does not answer. Is `fedmedpeft server start` running?")
        return
    rows = [[site.name, site.status, site.since or "never"] for site in status.sites]
    title = f"Server at {status.address}: up; {status.online} of {len(status.sites)} sites online"
    show_table(title, ("site", "status", "since (UTC)"), rows, numbers_from=3)
    runs = [[str(run.get(key, "")) for key in ("run-id", "status", "status-details")] for run in status.runs]
    show_table("Runs, newest first", ("run", "status", "details"), runs, numbers_from=3)
