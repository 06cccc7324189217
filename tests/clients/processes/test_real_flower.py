"""Flower's own processes over TLS on loopback: an app with other code is sent to a site, and a stranger knocks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
import uvicorn
import yaml

from clients.audit_log.audit_log import read_log
from clients.audit_log.tables import outcome
from clients.deployment.desk import HospitalDesk
from clients.deployment.service import service
from clients.processes.flower_account import prepare_flower_home
from clients.processes.programs import write_programs
from clients.processes.site_processes import programs_directory, site_processes
from clients.site_file import SiteFile
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Refusal
from fedmedpeft.supervision import Account, Child
from fedmedpeft.supervision.child import Running
from fedmedpeft.supervision.leftovers import wait_until
from server.app_directory import app_project
from server.processes.control import is_healthy, list_sites, operator_environment, register_sites
from server.processes.follow import Follower
from server.processes.kit import ServerKit
from server.processes.start_command import server_processes
from tests.clients.processes.site_files import write_site
from tests.other_user import other_account, python_of
from tests.tls_kit import make_server_kit, make_site_key

pytestmark = pytest.mark.slow

_HOSTILE = """
import glob, os
folder = {folder!r}
with open(folder + "/it-ran", "w") as trace:
    trace.write(str([os.path.exists(path) and open(path).read() for path in glob.glob(folder + "/site/images/*")]))
from flwr.clientapp import ClientApp
app = ClientApp()
"""
_SERVER_APP = """
import json, time
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    while not list(grid.get_node_ids()):
        time.sleep(0.2)
    asked = [Message(RecordDict(), dst_node_id=node, message_type="query.join") for node in grid.get_node_ids()]
    replies = grid.send_and_receive(asked, timeout=60)
    told = [[reply.error.code, reply.error.reason] if reply.has_error() else None for reply in replies]
    with open(context.run_config["runs-dir"], "w") as file:
        json.dump(told, file)
"""


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def folder() -> Iterator[Path]:
    """Other users can write here, so that the code of the server could, too, if it ran."""
    path = Path(tempfile.mkdtemp(prefix="fmp-real-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@contextmanager
def _running(child: Child, said: list[str]) -> Iterator[Running]:
    running = Running(child, said.append)
    try:
        yield running
    finally:
        running.stop(lambda: 10.0)


def _site(folder: Path, kit: ServerKit, key: Path, account: Account | None) -> tuple[Child, Child]:
    """SuperNode and SuperExec of a site; as another user where this one is root."""
    file = write_site(folder / "site", **{"runtime-port": _port()})
    (folder / "site" / "images").chmod(0o700)
    content = yaml.safe_load(file.read_text())
    content["server"] |= {"address": kit.address, "ca-certificate": str(kit.directory / "ca.crt"), "key": str(key)}
    file.write_text(yaml.safe_dump(content))
    site = SiteFile.load(file)
    prepare_flower_home(site, account)
    environ = _programs(site, account)
    (folder / "site" / "state").chmod(0o711)
    _, node, executor = site_processes(site, file, environ, account, 1.0)
    return node, executor


@contextmanager
def _worker(site: SiteFile, account: Account | None) -> Iterator[Path]:
    """What the worker does with refusals of others, in this process, behind the site's socket. Its audit log."""
    with HospitalDesk.opened(site) as desk, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(site.socket))
        os.chown(site.socket, account.uid if account else -1, -1)
        site.socket.chmod(0o600)
        settings = {"log_config": None, "lifespan": "off"}
        server = uvicorn.Server(uvicorn.Config(service(desk, lambda: None), **settings))  # type: ignore[arg-type]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield site.audit_log
        server.should_exit = True
        thread.join(10.0)


def _programs(site: SiteFile, account: Account | None) -> dict[str, str]:
    """Write the site's programs, for a Python that ``account`` can run; the environment that it takes."""
    if account is None:
        write_programs(programs_directory(site))
        return dict(os.environ)
    python, path = python_of(account, "flwr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", python)
        programs = write_programs(programs_directory(site))
    # The console script of this environment starts an interpreter that the other user may not be able to run.
    call = "from flwr.supercore.cli import flower_superexec as start; start()"
    (programs / "flower-superexec").write_text(f"#!/bin/sh\nexec {python} -P -c '{call}' \"$@\"\n")
    (programs / "flower-superexec").chmod(0o755)
    return {"PYTHONPATH": path}


def _with_key(node: Child, key: Path) -> Child:
    if node.secret is not None:
        return replace(node, secret=key)
    place = node.command.index("--auth-supernode-private-key") + 1
    return replace(node, command=(*node.command[:place], str(key), *node.command[place + 1 :]))


def _submit(folder: Path, kit: ServerKit) -> Follower:
    """An app whose ClientApp reads what it finds; and then the run's end."""
    app = folder / "app"
    for package, text in (("clients", _HOSTILE.format(folder=str(folder))), ("server", _SERVER_APP)):
        (app / package).mkdir(parents=True)
        (app / package / "__init__.py").write_text("")
        (app / package / "app.py").write_text(text)
    project = app_project()
    project["tool"]["flwr"]["app"]["config"] = RunConfig(runs_dir=str(folder / "replies.json")).to_mapping()
    (app / "pyproject.toml").write_text(tomli_w.dumps(project))
    command = ["flwr", "run", str(app), "--stream"]
    follower = Follower(command, folder, operator_environment(kit), folder / "run.log", print, True)
    follower.follow()
    return follower


def test_other_code_is_refused_and_a_stranger_too(folder: Path) -> None:
    """As root, the ClientApp process is another user's, and the key reaches the SuperNode through a pipe."""
    account = other_account() if os.geteuid() == 0 else None
    directory = make_server_kit(folder / "kit", ("Ulm",))
    for path in (folder / "kit", folder / "kit" / "ca.crt"):
        path.chmod(0o755)
    kit = ServerKit.open(directory, "127.0.0.1", _port())
    kit.prepare()
    superlink, superexec = server_processes(kit, os.environ)
    said: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(_running(replace(superlink, farewell=10.0), said))
        assert wait_until(lambda: is_healthy(kit), 60.0)
        stack.enter_context(_running(superexec, said))
        register_sites(kit, said.append)
        register_sites(kit, said.append)
        assert said == ["site 'Ulm': registered"]

        node, executor = _site(folder, kit, directory / "sites" / "Ulm.key", account)
        stranger = _with_key(node, make_site_key(folder / "stranger.key"))
        with _running(stranger, said) as knocking:
            assert wait_until(lambda: knocking.ended() is not None, 60.0)
            assert "ask the coordinator" in knocking.ending().sentence

        running = stack.enter_context(_running(node, said))
        assert wait_until(node.ready, 60.0)
        stack.enter_context(_running(executor, said))
        assert wait_until(lambda: any("connected to the server" in line for line in said), 60.0)
        assert Path(f"/proc/{running.pid}").stat().st_uid == (account.uid if account else os.geteuid())
        assert [(site.name, site.status) for site in list_sites(kit)] == [("Ulm", "online")]

        os.kill(running.pid, signal.SIGSTOP)
        assert not node.ready(), "it listens, but does not answer"
        os.kill(running.pid, signal.SIGCONT)
        assert wait_until(node.ready, 10.0)

        log = stack.enter_context(_worker(SiteFile.load(folder / "site" / "site.yaml"), account))
        assert _submit(folder, kit).status()[0]
        (refused,) = [line for line in read_log(log).entries if line.kind == "refused"]
    assert json.loads((folder / "replies.json").read_text()) == [
        [Refusal.CODE, "the app that the server sent is not the one installed here (clients/__init__.py differs)"]
    ]
    assert outcome(refused) == (
        "join: CODE (code): the app that the server sent is not the one installed here (clients/__init__.py differs)"
    )
    assert not (folder / "it-ran").exists()
    assert not (folder / "site" / "state" / "flower" / "apps").exists()
