"""The process of one cell: ``python -m simulations.study.cell_process CELL.TOML`` runs it as ``fedmedpeft run`` does.

The study has checked method and backbone already, so torch is not even imported here. The process ends with the study
that started it, also where that was killed: its standard input is a pipe that the study holds open.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from fedmedpeft.components import ConfigError
from fedmedpeft.data import DataError
from fedmedpeft.file_lock import locked
from fedmedpeft.supervision.leftovers import end_processes, processes_with
from server.errors import FederationError
from simulations.in_process import run_in_process
from simulations.launch import Launch, run
from simulations.preflight import PARTITION_FILE, Federation, plan_federation
from simulations.settings import read_settings
from simulations.stopping import stopped_once
from simulations.superlink import LaunchError

MARKER = "FEDMEDPEFT_CELL"
"""Every process of a cell has it in its environment, with the path of the cell's configuration."""

ERROR = "Error: "
"""Begins the line of the log that says why the cell failed."""


def main(
    file: Path,
    cpus_per_site: Annotated[int, typer.Option()] = 1,
    gpus_per_site: Annotated[float, typer.Option()] = 0.0,
    online: Annotated[bool, typer.Option("--online")] = False,
    in_process: Annotated[bool, typer.Option("--in-process")] = False,
) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    with stopped_once("Stopping the run and Flower's processes ..."), locked(file.parent / "lock", wait=True):
        # What an earlier process of this cell left running, if it was killed with no chance to clean up.
        end_processes(lambda: processes_with(f"{MARKER}={file}"), 0.0)
        os.environ[MARKER] = str(file)
        try:
            federation = _federation(file)
            if in_process:
                directory = run_in_process(federation.config, federation.sites, _say, cpus_per_site)
            else:
                directory = _through_flower(
                    Launch(federation.config, federation.sites, cpus_per_site, gpus_per_site, online)
                )
            federation.partition.save(directory / PARTITION_FILE)
        except (ConfigError, DataError, FederationError, LaunchError) as error:
            _say(f"{ERROR}{' '.join(str(error).split())}")
            raise typer.Exit(1) from None


def _federation(file: Path) -> Federation:
    config = read_settings(file)
    if not config.run_name:
        raise ConfigError(f"'{file}' has no run-name: it was not written by a study.")
    # An earlier process may have gone on writing for a moment after the study had removed its half of a run.
    shutil.rmtree(Path(config.runs_dir) / config.run_name, ignore_errors=True)
    return plan_federation(config)


def _through_flower(launch: Launch) -> Path:
    """All of Flower's log is printed: this process's output is the cell's log. Raises LaunchError where it failed."""
    outcome = run(launch, _say, verbose=True)
    if outcome.directory is None:
        session = outcome.log.parent if outcome.log else None
        if session and (session / "superlink.log").is_file():
            _say("The SuperLink's log:")
            _say((session / "superlink.log").read_text(encoding="utf-8", errors="replace"))
            shutil.rmtree(session, ignore_errors=True)
        raise LaunchError(outcome.reason)
    return outcome.directory


def _follow_parent() -> None:
    """Until the pipe closes, which it does when the study ends, however it ends."""
    # Not sys.stdin: its lock, held by this thread, would abort the interpreter as it ends.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
