"""``fedmedpeft server submit``: a run for the real federation, and what becomes of it."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w
import typer

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.run_file import read_run_file
from server.app_directory import make_app_directory
from server.processes.control import ServerError, operator_environment, require_server
from server.processes.follow import UNKNOWN, Follower
from server.processes.kit import ServerKit
from server.run_state import RESUME_FILE

_PATIENCE = 120.0
_RESTART = 30.0
"""Seconds in which a SuperLink that was lost may be up again and its runs go on."""
_LOST = (
    f"The server went away and did not come back within {_RESTART:g} s, so how the run ended is not known. "
    "`fedmedpeft server status` tells it once the server is up again."
)


def read_run(path: Path, kit: ServerKit, resume: str) -> RunConfig:
    """A checked configuration with an absolute runs-dir: relative ones start in the kit.

    Raises:
        ConfigError: the file cannot be read or a value cannot be; there is no such run to go on with.
    """
    config = RunConfig.from_mapping(read_run_file(path) | ({"resume": resume} if resume else {}))
    runs = kit.directory / Path(config.runs_dir).expanduser()
    if config.resume and not (runs / config.resume).is_dir():
        raise ConfigError(f"resume='{config.resume}': there is no such run in '{runs}'.")
    return RunConfig.from_mapping(config.to_mapping() | {"runs-dir": str(runs)})


def submit(kit: ServerKit, config: RunConfig, say: Callable[[str], None], *, follow: bool) -> str:
    """Hand ``config`` and the installed app to the server. With ``follow`` wait for the end.

    Returns:
        The run's id at Flower.

    Raises:
        ServerError: the server cannot be reached or does not take it, or with ``follow`` the run did not complete.
    """
    require_server(kit)
    environment = operator_environment(kit)
    with tempfile.TemporaryDirectory(prefix="fedmedpeft-submit-") as folder:
        make_app_directory(Path(folder) / "app")
        (Path(folder) / "run-config.toml").write_text(tomli_w.dumps(config.to_mapping()), encoding="utf-8")
        command = submit_command(Path(folder))
        if not follow:
            run = _ask([*command, "--format", "json"], environment)
            return str(run["run-id"])
        log = kit.state / "logs" / f"submit-{time.strftime('%Y%m%d-%H%M%S')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch(mode=0o600)
        follower = Follower([*command, "--stream"], Path(folder), environment, log, say, False)
        follower.follow()
        completed, details = follower.status(_RESTART)
    if not completed:
        why = _LOST if details == UNKNOWN else " ".join(details.split()) or "The run did not complete."
        raise ServerError(f"{why} (log: {log}){_how_to_go_on(follower.run_directory)}")
    return follower.run_id or ""


def _how_to_go_on(run: Path | None) -> str:
    """With a run that has left a checkpoint."""
    if run is None or not (run / RESUME_FILE).is_file():
        return ""
    return f" It can go on: `submit` it with --resume {run.name} while the server is up."


def submit_command(folder: Path) -> list[str]:
    """``flwr run`` of what lies in ``folder``; the server is the default connection of the operator's FLWR_HOME."""
    return ["flwr", "run", str(folder / "app"), "--run-config", str(folder / "run-config.toml")]


def list_runs(kit: ServerKit) -> list[dict[str, Any]]:
    """Flower's runs, newest first. Raises ServerError."""
    runs = _ask(["flwr", "ls", "--format", "json"], operator_environment(kit))["runs"]
    return list(runs)


def stop_run(kit: ServerKit, run: str) -> None:
    """Raises ServerError where the server cannot be reached, there is no such run, or it has ended."""
    require_server(kit)
    _ask(["flwr", "stop", run, "--format", "json"], operator_environment(kit))


def show_submission(kit: ServerKit, config: RunConfig) -> None:
    """The same by hand."""
    folder = Path("NEW-DIRECTORY")
    typer.echo(f"export FLWR_HOME={shlex.quote(str(kit.operator))}")
    typer.echo(
        f"python -c 'from pathlib import Path; from server.app_directory import make_app_directory as make; "
        f'make(Path("{folder}/app"))\''
    )
    typer.echo(shlex.join([*submit_command(folder), "--stream"]))
    typer.echo(f"# {folder}/run-config.toml")
    typer.echo("".join(f"# {line}\n" for line in tomli_w.dumps(config.to_mapping()).splitlines()), nl=False)


def _ask(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """The answer of a ``flwr`` command, whose exit code does not tell how it went. Raises ServerError."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise ServerError(f"`{shlex.join(command[:2])}` got no answer within {_PATIENCE:g} s.") from None
    try:
        answer = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        raise ServerError(f"Flower says: {' '.join((done.stdout + done.stderr).split())[-400:]}") from None
    if not isinstance(answer, dict) or not answer.get("success"):
        raise ServerError(f"Flower says: {' '.join(str(answer.get('error-message', '')).split())}")
    return answer
