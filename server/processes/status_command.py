"""``fedmedpeft server status``: is it up, which sites are there, which runs."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import typer

from fedmedpeft.console_table import show_table
from fedmedpeft.supervision.record import endings, read_record
from server.processes.control import ServerError, Site, as_record, list_sites, require_server
from server.processes.kit import ServerKit
from server.processes.start_command import RECORD
from server.processes.submit_command import list_runs
from server.run_state import states_by_flower_run

_RUNS = 10


@dataclass(frozen=True)
class ServerStatus:
    """What the server says of itself.

    Attributes:
        problem: why it does not answer; empty where it does. Without an answer there are no sites and no runs.
        processes: of its record: name -> pid, since, restarts, said, ended (at, why).
    """

    address: str
    problem: str
    sites: list[Site]
    runs: list[dict[str, Any]]
    processes: dict[str, dict[str, Any]]

    @property
    def healthy(self) -> bool:
        return not self.problem

    @property
    def online(self) -> int:
        return sum(site.status == "online" for site in self.sites)


def read_status(kit: ServerKit) -> ServerStatus:
    """Raises ServerError where it goes away meanwhile."""
    try:
        processes = read_record(kit.state / RECORD)
    except PermissionError:  # the service's user has it; whoever asks as another one is told the rest
        processes = {}
    try:
        require_server(kit)
    except ServerError as error:
        return ServerStatus(kit.address, str(error), [], [], processes)
    sites = [site for site in list_sites(kit) if site.status != "unregistered"]
    known = states_by_flower_run(kit.runs)
    runs = [run | _as_written_down(known, run) for run in list_runs(kit)[:_RUNS]]
    return ServerStatus(kit.address, "", sites, runs, processes)


def _as_written_down(known: dict[str, tuple[str, str]], run: dict[str, Any]) -> dict[str, str]:
    """Name and state of a run of Flower's, as `fedmedpeft runs` has them; empty where it wrote nothing in this kit."""
    name, state = known.get(str(run.get("run-id")), ("", ""))
    return {"name": name, "state": state}


def show_status(status: ServerStatus, *, as_json: bool) -> None:
    if as_json:
        sites = [as_record(site) for site in status.sites]
        content = {"address": status.address, "healthy": status.healthy, "sites": sites, "runs": status.runs}
        typer.echo(json.dumps(content | {"processes": status.processes}, indent=2))
        return
    for sentence in endings(status.processes, time.time()):
        typer.echo(sentence)
    if not status.healthy:
        typer.echo(status.problem)
        return
    rows = [[site.name, site.status, site.since or "never"] for site in status.sites]
    title = f"Server at {status.address}: up; {status.online} of {len(status.sites)} sites online"
    show_table(title, ("site", "status", "since (UTC)"), rows, numbers_from=3)
    runs = [
        [
            *(str(run.get(key, "")) for key in ("run-id", "name", "status")),
            run["state"] or str(run.get("status-details", "")),
        ]
        for run in status.runs
    ]
    show_table("Runs, newest first", ("run", "name", "status", "how it fares"), runs, numbers_from=4)
