from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from flwr.proto.control_pb2 import RegisterNodeRequest, UnregisterNodeRequest

from fedmedpeft.components import ConfigError
from server.processes import control
from server.processes.control import (
    ServerError,
    Site,
    is_healthy,
    list_sites,
    operator_environment,
    register_sites,
    require_server,
)
from server.processes.kit import ServerKit
from tests.tls_kit import make_server_kit


@pytest.fixture
def kit(tmp_path: Path) -> ServerKit:
    """A kit of two sites."""
    return ServerKit.open(make_server_kit(tmp_path / "kit", ("Bern", "Ulm")), None, 1)


class _Controls:
    """Flower's control API: notes what it is asked, and refuses with ``refusal`` where there is one."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.refusal: str | None = None

    def RegisterNode(self, request: RegisterNodeRequest) -> None:  # noqa: N802
        self._ask(request.name, request.public_key)

    def UnregisterNode(self, request: UnregisterNodeRequest) -> None:  # noqa: N802
        self._ask(request.node_id)

    def _ask(self, *what: Any) -> None:
        self.calls.append(what)
        if self.refusal is not None:
            response = httpx.Response(409, text=self.refusal, request=httpx.Request("POST", "https://server"))
            response.raise_for_status()


@pytest.fixture
def controls(monkeypatch: pytest.MonkeyPatch) -> _Controls:
    found = _Controls()
    monkeypatch.setattr(control, "_controls", lambda kit: nullcontext(found))
    return found


def _known(monkeypatch: pytest.MonkeyPatch, *sites: Site) -> None:
    monkeypatch.setattr(control, "list_sites", lambda kit: list(sites))


def _pem(path: Path) -> str:
    return load_ssh_public_key(path.read_bytes()).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_only_new_sites_are_registered(kit: ServerKit, controls: _Controls, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the very bytes that a SuperNode shows."""
    _known(monkeypatch, Site("Ulm", 7, "online", "", _pem(kit.public_keys()["Ulm"])))
    said: list[str] = []
    register_sites(kit, said.append)
    assert said == ["site 'Bern': registered"]
    assert controls.calls == [("Bern", _pem(kit.public_keys()["Bern"]).encode())]


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (
            '{"code": 23, "detail": "Public key already in use."}',
            "Flower never takes it again. The site needs a new one",
        ),
        ('{"code": 22, "detail": "The key is\\nnot valid."}', "not registered: The key is not valid."),
        ("<html>", "not registered: HTTP 409"),
    ],
)
def test_a_refusal_is_said_and_hinders_nothing(
    kit: ServerKit, controls: _Controls, monkeypatch: pytest.MonkeyPatch, refusal: str, words: str
) -> None:
    _known(monkeypatch)
    controls.refusal = refusal
    said: list[str] = []
    register_sites(kit, said.append)
    assert [call[0] for call in controls.calls] == ["Bern", "Ulm"]
    assert [line.partition(":")[0] for line in said] == ["site 'Bern'", "site 'Ulm'"]
    assert words in said[0]


def test_a_key_that_was_not_removed_is_said(
    kit: ServerKit, controls: _Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = _pem(kit.public_keys()["Ulm"])
    entry = {"name": "Ulm", "public_key": pem, "reason": "lost", "when": "now"}
    (kit.directory / "revoked.json").write_text(json.dumps([entry]))
    _known(monkeypatch, Site("Ulm", 7, "online", "", pem), Site("Bern", 8, "online", "", _pem(_bern(kit))))
    controls.refusal = '{"code": 16, "detail": "No."}'
    said: list[str] = []
    assert not register_sites(kit, said.append)
    assert said == ["site 'Ulm': its key was not removed: No."]


def _bern(kit: ServerKit) -> Path:
    return kit.public_keys()["Bern"]


def test_revoked_keys_are_removed_once(kit: ServerKit, controls: _Controls, monkeypatch: pytest.MonkeyPatch) -> None:
    old = kit.directory / "sites" / "Bern.pub"
    entry = {"name": "Bern", "public_key": old.read_text(), "reason": "lost", "when": "now"}
    (kit.directory / "revoked.json").write_text(json.dumps([entry]))
    pem = _pem(old)
    old.unlink()
    ulm = Site("Ulm", 7, "online", "", _pem(kit.public_keys()["Ulm"]))
    _known(monkeypatch, ulm, Site("Bern", 8, "online", "", pem))
    said: list[str] = []
    assert register_sites(kit, said.append)
    assert said == ["site 'Bern': its revoked key was removed"]
    assert controls.calls == [(8,)]
    _known(monkeypatch, ulm, Site("Bern", 8, "unregistered", "", pem))
    register_sites(kit, said.append)
    assert len(said) == 1


def test_a_list_of_revoked_keys_that_cannot_be_read(
    kit: ServerKit, controls: _Controls, monkeypatch: pytest.MonkeyPatch
) -> None:
    _known(monkeypatch)
    (kit.directory / "revoked.json").write_text("{")
    with pytest.raises(ConfigError, match="revoked.json' cannot be read"):
        register_sites(kit, print)


def test_no_server(kit: ServerKit) -> None:
    assert not is_healthy(kit)
    for ask in (list_sites, require_server):
        with pytest.raises(ServerError, match="does not answer.*fedmedpeft server start"):
            ask(kit)


class _Answer(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _serving(certificates: Path | None, status: int = 200) -> Iterator[int]:
    """A port on which something answers: with a kit's certificate, or without TLS."""
    handler = type("_Answer", (_Answer,), {"status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_its_own_server_is_asked_whatever_proxy_is_set(kit: ServerKit, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with _serving(kit.directory) as port:
        here = replace(kit, port=port)
        require_server(here)
        assert is_healthy(here)
        assert list_sites(here) == []


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (make_server_kit, 200, "certificate that this kit's ca.crt does not vouch for .*stop .*server start"),
        (lambda folder: None, 200, "speaks no TLS"),
        (None, 404, "is not this kit's server .HTTP 404."),
    ],
)
def test_what_else_may_answer(
    kit: ServerKit, tmp_path: Path, make: Callable[[Path], Path | None] | None, status: int, words: str
) -> None:
    certificates = kit.directory if make is None else make(tmp_path / "other")
    with _serving(certificates, status) as port, pytest.raises(ServerError, match=words):
        require_server(replace(kit, port=port))


def test_a_server_that_takes_the_connection_and_says_nothing(kit: ServerKit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = replace(kit, port=listening.getsockname()[1])
        with pytest.raises(ServerError, match="does not answer .*timed out"):
            require_server(here, 0.2)
        assert not is_healthy(here, 0.2)


def test_commands_have_a_home_of_their_own(kit: ServerKit) -> None:
    environment = operator_environment(kit)
    assert environment["FLWR_HOME"] == str(kit.operator)
    assert (kit.operator / "config.toml").is_file()
    assert environment["PATH"].endswith(os.environ["PATH"])
