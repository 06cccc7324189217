from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from fedmedpeft.components import ConfigError
from server.processes import control
from server.processes.control import ServerError, Site, is_healthy, list_sites, operator_environment, register_sites
from server.processes.kit import ServerKit
from tests.tls_kit import make_server_kit

_FLWR = """#!/bin/sh
echo "$@" >> '{calls}'
echo "Using SuperLink: hospitals"
cat '{answer}'
"""


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerKit:
    """A kit of two sites, and a ``flwr`` that notes how it was called."""
    program = tmp_path / "bin" / "flwr"
    program.parent.mkdir()
    program.write_text(_FLWR.format(calls=tmp_path / "calls", answer=tmp_path / "answer"))
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "answer").write_text('{"success": true, "node-id": 1}')
    return ServerKit.open(make_server_kit(tmp_path / "kit", ("Bern", "Ulm")), None, 1)


def _known(monkeypatch: pytest.MonkeyPatch, *sites: Site) -> None:
    monkeypatch.setattr(control, "list_sites", lambda kit: list(sites))


def _pem(path: Path) -> str:
    return load_ssh_public_key(path.read_bytes()).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []


def test_only_new_sites_are_registered(kit: ServerKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _known(monkeypatch, Site("Ulm", 7, "online", "", _pem(kit.public_keys()["Ulm"])))
    said: list[str] = []
    register_sites(kit, said.append)
    assert said == ["site 'Bern': registered"]
    assert _calls(tmp_path) == [f"supernode register {kit.public_keys()['Bern']} --name Bern --format json"]


def test_a_refusal_is_said_and_hinders_nothing(kit: ServerKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`flwr` ends with 0 whatever happened."""
    _known(monkeypatch)
    (tmp_path / "answer").write_text('{"success": false, "error-message": "[code: 23] Public key already in use."}')
    said: list[str] = []
    register_sites(kit, said.append)
    assert len(said) == len(_calls(tmp_path)) == 2
    assert "Flower never takes it again. The site needs a new one" in said[0]


def test_revoked_keys_are_removed_once(kit: ServerKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = kit.directory / "sites" / "Bern.pub"
    entry = {"name": "Bern", "public_key": old.read_text(), "reason": "lost", "when": "now"}
    (kit.directory / "revoked.json").write_text(json.dumps([entry]))
    pem = _pem(old)
    old.unlink()
    ulm = Site("Ulm", 7, "online", "", _pem(kit.public_keys()["Ulm"]))
    _known(monkeypatch, ulm, Site("Bern", 8, "online", "", pem))
    said: list[str] = []
    register_sites(kit, said.append)
    assert said == ["site 'Bern': its revoked key was removed"]
    assert _calls(tmp_path) == ["supernode unregister 8 --format json"]
    _known(monkeypatch, ulm, Site("Bern", 8, "unregistered", "", pem))
    register_sites(kit, said.append)
    assert len(said) == 1


def test_a_list_of_revoked_keys_that_cannot_be_read(kit: ServerKit, monkeypatch: pytest.MonkeyPatch) -> None:
    _known(monkeypatch)
    (kit.directory / "revoked.json").write_text("{")
    with pytest.raises(ConfigError, match="revoked.json' cannot be read"):
        register_sites(kit, print)


def test_no_server(kit: ServerKit) -> None:
    assert not is_healthy(kit)
    with pytest.raises(ServerError, match="does not answer.*fedmedpeft server start"):
        list_sites(kit)


def test_commands_have_a_home_of_their_own(kit: ServerKit) -> None:
    environment = operator_environment(kit)
    assert environment["FLWR_HOME"] == str(kit.operator)
    assert (kit.operator / "config.toml").is_file()
    assert environment["PATH"].endswith(os.environ["PATH"])
