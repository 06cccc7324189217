"""``fedmedpeft server start``: Flower's SuperLink and SuperExec, until they are stopped."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import typer

from fedmedpeft.components import ConfigError
from fedmedpeft.file_lock import locked
from fedmedpeft.flower_environment import flower_environment
from fedmedpeft.supervision import Child, Ending, Supervisor
from fedmedpeft.supervision.child import plain_ending
from fedmedpeft.supervision.leftovers import end_processes, processes_with
from server.processes.control import ServerError, is_healthy, register_sites
from server.processes.kit import ServerKit

MARKER = "FEDMEDPEFT_SERVER_STATE"
"""In the environment of all processes of a server: its state directory."""
SUPERLINK, SUPEREXEC = "superlink", "superexec"
RECORD = "processes.json"
_SHOWN = 12
_HUNG, _SLOW = 60.0, 10.0
"""Seconds without an answer after which a SuperLink hangs (a run outlives no longer pause), and that one may take."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def start_server(kit: ServerKit, environ: Mapping[str, str], *, once: bool) -> int:
    """Until it is stopped; the exit code.

    Raises:
        ConfigError: the kit's server is started already, or its certificate does not hold now.
    """
    os.umask(0o077)
    try:
        with locked(kit.state / "start.lock", wait=False):
            kit.prepare()
            ending = kit.check_certificate(datetime.now(UTC))
            marker = f"{MARKER}={kit.state}"
            end_processes(lambda: processes_with(marker), 0.0)
            _say(f"server on {kit.host}:{kit.port}; logs in {kit.state / 'logs'}")
            if ending:
                _say(f"WARNING: {ending}")
            if kit.host not in _LOOPBACK:
                _say(
                    "WARNING: who reaches this port controls every run (Flower's control routes know no accounts). Let "
                    "it listen on 127.0.0.1, with the kit's nginx in front."
                )
            return Supervisor(server_processes(kit, environ), _say, kit.state / RECORD, once=once).run()
    except BlockingIOError:
        raise ConfigError(
            f"The server of '{kit.directory}' is started already. `fedmedpeft server status --kit {kit.directory}` "
            "shows it; stop that one first."
        ) from None


def server_processes(kit: ServerKit, environ: Mapping[str, str]) -> list[Child]:
    """In the order of their start. Runs that go on survive a restart of the SuperLink within a minute."""
    environment = {**environ, **server_environment(kit, environ), MARKER: str(kit.state)}
    superlink, superexec = server_commands(kit)
    logs = kit.state / "logs"
    return [
        Child(
            name=SUPERLINK,
            command=superlink,
            environment=environment,
            directory=kit.state,
            log=logs / "superlink.log",
            ready=partial(is_healthy, kit, _SLOW),
            hung_after=_HUNG,
            when_ready=partial(_register, kit, threading.Lock()),
            explain=explain,
        ),
        Child(SUPEREXEC, superexec, environment, kit.state, logs / "superexec.log", explain=explain),
    ]


def server_commands(kit: ServerKit) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``flower-superlink`` and ``flower-superexec``."""
    kept, secret = kit.directory, str(kit.directory / "superexec.secret")
    superlink = (
        *("flower-superlink", "--host", kit.host, "--port", str(kit.port)),
        *("--ssl-ca-certfile", str(kept / "ca.crt"), "--ssl-certfile", str(kept / "server.crt")),
        *("--ssl-keyfile", str(kept / "server.key"), "--enable-supernode-auth"),
        *("--isolation", "process", "--superexec-auth-secret-file", secret),
        *("--database", str(kit.state / "superlink.db"), "--disable-runtime-dependency-installation"),
    )
    superexec = (
        *("flower-superexec", "--runtime-api-address", kit.address),
        *("--root-certificates", str(kept / "ca.crt"), "--superexec-auth-secret-file", secret),
    )
    return superlink, superexec


def server_environment(kit: ServerKit, environ: Mapping[str, str]) -> dict[str, str]:
    """What differs from ``environ``."""
    return flower_environment(environ, kit.state / "flower") | {"HF_HUB_OFFLINE": environ.get("HF_HUB_OFFLINE", "1")}


def show_commands(kit: ServerKit, environ: Mapping[str, str]) -> None:
    """The same by hand."""
    for name, value in server_environment(kit, environ).items():
        if environ.get(name) != value:
            typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo(f"cd {shlex.quote(str(kit.state))}")
    for command in server_commands(kit):
        typer.echo(shlex.join(command))
    typer.echo(f"\n# The operator's commands, with FLWR_HOME={shlex.quote(str(kit.operator))}:")
    for name, path in kit.public_keys().items():
        typer.echo(shlex.join(["flwr", "supernode", "register", str(path), "--name", name]))


def explain(code: int, tail: Sequence[str]) -> Ending:
    """Why the SuperLink or SuperExec ended."""
    text = "\n".join(tail)
    if "address already in use" in text:
        return Ending("the port is in use on this machine: another server? Choose one with --port or in server.yaml")
    if "database is locked" in text:
        return Ending("its database (state/superlink.db) is locked by another process; end that one")
    if "Exit Code: 105" in text:
        return Ending(
            "its database (state/superlink.db) is of another version of Flower. Move it away; the sites are registered "
            "anew, and must each be started again"
        )
    return plain_ending(code, [line for line in tail[-_SHOWN:] if "ERROR" in line or "Error" in line] or tail[-1:])


def _register(kit: ServerKit, one: threading.Lock) -> None:
    """Once at a time: a SuperLink that is started again may be up before this is done for the one before."""
    try:
        with one:
            register_sites(kit, _say)
    except (ServerError, ConfigError) as error:
        _say(f"Sites were not registered: {error} Try `fedmedpeft server register --kit {kit.directory}`.")


def _say(line: str) -> None:
    typer.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")
