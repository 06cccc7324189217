from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from flwr.common.config import parse_config_args

from clients.deployment.longest_request import OVERDUE
from clients.processes import worker_door
from clients.processes.site_processes import MARKER, SUPEREXEC, SUPERNODE, WORKER, flower_commands, site_processes
from clients.site_file import SiteFile
from fedmedpeft.components import ConfigError
from fedmedpeft.supervision import Account, Child
from fedmedpeft.supervision.child import SECRET
from tests.clients.processes.site_files import write_site


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


_ENVIRON = {
    "PATH": "/bin",
    "HTTPS_PROXY": "http://proxy:3128",
    "no_proxy": "intranet",
    "AWS_SECRET_ACCESS_KEY": "x",
    "SSH_AUTH_SOCK": "/agent",
    "FLWR_HOME": "/elsewhere",
}


def _children(tmp_path: Path, account: Account | None = None, **worker: object) -> dict[str, Child]:
    file = write_site(tmp_path / "a site", **worker)
    children = site_processes(SiteFile.load(file), file, _ENVIRON, account, 7.0)
    assert [child.name for child in children] == [WORKER, SUPERNODE, SUPEREXEC]
    return {child.name: child for child in children}


def _option(child: Child, name: str) -> str:
    return child.command[child.command.index(name) + 1]


def test_the_supernode_has_tls_its_key_and_the_socket_s_place_and_nothing_of_the_data(tmp_path: Path) -> None:
    node = _children(tmp_path)[SUPERNODE]
    directory = tmp_path / "a site"
    assert _option(node, "--superlink") == "fl.example.org:443"
    assert _option(node, "--root-certificates") == str(directory / "ca.crt")
    assert _option(node, "--auth-supernode-private-key") == str(directory / "site.key")
    assert "--insecure" not in node.command
    assert (_option(node, "--host"), _option(node, "--port")) == ("127.0.0.1", "9094")
    told = parse_config_args([_option(node, "--node-config")])
    assert told == {"site-socket": str(directory / "state" / "worker.sock")}
    assert "labels.csv" not in " ".join(node.command)


def test_other_users_of_the_machine_get_no_messages(tmp_path: Path) -> None:
    """Without the secret anyone who reaches the SuperNode's port could take a message from it."""
    children = _children(tmp_path)
    secret = str(tmp_path / "a site" / "state" / "superexec.secret")
    assert _option(children[SUPERNODE], "--isolation") == "process"
    assert _option(children[SUPERNODE], "--superexec-auth-secret-file") == secret
    assert _option(children[SUPEREXEC], "--superexec-auth-secret-file") == secret
    assert _option(children[SUPEREXEC], "--runtime-api-address") == "127.0.0.1:9094"


def test_as_another_user_the_key_goes_through_a_pipe(tmp_path: Path) -> None:
    children = _children(tmp_path, Account("flower", 990, 990))
    assert _option(children[SUPERNODE], "--auth-supernode-private-key") == SECRET
    assert children[SUPERNODE].secret == tmp_path / "a site" / "site.key"
    assert children[SUPEREXEC].secret is None
    assert [child.account is None for child in children.values()] == [True, False, False]


def test_flower_gets_little_of_this_environment_and_our_programs_first(tmp_path: Path) -> None:
    children = _children(tmp_path)
    state = tmp_path / "a site" / "state"
    for name in (SUPERNODE, SUPEREXEC):
        environment = children[name].environment
        assert environment["PATH"].startswith(f"{state / 'programs'}:{Path(sys.executable).parent}:")
        assert environment["FLWR_HOME"] == environment["HOME"] == str(state / "flower")
        assert environment["HTTPS_PROXY"] == "http://proxy:3128"
        assert environment["no_proxy"] == "intranet,127.0.0.1,localhost"
        assert not {"AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK"} & set(environment)
        assert environment[MARKER] == str(state)


def test_the_worker_is_the_installed_one_with_the_site_s_threads(tmp_path: Path) -> None:
    worker = _children(tmp_path, threads=3)[WORKER]
    assert worker.command[1:] == ("-P", "-m", "clients.deployment.daemon", str(tmp_path / "a site" / "site.yaml"))
    assert worker.environment["OMP_NUM_THREADS"] == "3"
    assert worker.environment["HF_HUB_OFFLINE"] == "1"
    assert worker.environment["AWS_SECRET_ACCESS_KEY"] == "x"
    assert worker.farewell == 7.0
    assert worker.account is None
    assert not worker.ready()


def test_the_supernode_is_ready_once_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs listens still: the system takes the connection, and nobody says anything."""
    monkeypatch.setattr(worker_door, "_PATIENCE", 0.3)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with HTTPServer(("127.0.0.1", 0), _Health) as server:
        node = _children(tmp_path, **{"runtime-port": server.server_port})[SUPERNODE]
        assert not node.ready()
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        assert node.ready()
        server.shutdown()
    assert not node.ready()


def test_those_that_can_be_asked_are_watched(tmp_path: Path) -> None:
    children = _children(tmp_path)
    assert {name: child.hung_after for name, child in children.items()} == {
        WORKER: 120.0,
        SUPERNODE: 60.0,
        SUPEREXEC: None,
    }


def test_why_the_worker_ended(tmp_path: Path) -> None:
    worker = _children(tmp_path, **{"longest-request": 600})[WORKER]
    assert "longer than worker.longest-request (600 s)" in worker.explain(OVERDUE, ["tail"]).sentence
    assert worker.explain(1, ["no memory"]).sentence == "ended (exit code 1): no memory"


def test_a_socket_that_flower_cannot_be_told_of(tmp_path: Path) -> None:
    site = SiteFile.load(write_site(tmp_path / 'a "site"'))
    with pytest.raises(ConfigError, match="worker.socket=.*quote"):
        flower_commands(site, "key")
