from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedmedpeft.components import ConfigError
from fedmedpeft.site_identity import JoinRequest, make_private_key
from server.processes import control
from server.processes.kit import ServerKit
from server.provisioning import cli
from server.provisioning.overview import overview
from server.provisioning.register import Register

_FEDERATION = """
name: retina
server: {address: "fl.example.org:443"}
sites: [{name: Basel}, {name: Bern}]
"""


def _call(*arguments: object, answer: str | None = None, code: int = 0) -> str:
    done = CliRunner().invoke(cli.app, ["provision", *map(str, arguments)], input=answer)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def federation(tmp_path: Path) -> Path:
    path = tmp_path / "federation.yaml"
    path.write_text(_FEDERATION)
    return path


@pytest.mark.parametrize("word", [["new"], []])
def test_new_with_and_without_the_word(federation: Path, tmp_path: Path, word: list[str]) -> None:
    shown = _call(*word, federation, "--out", tmp_path / "kits")
    found = overview(tmp_path / "kits")
    assert all(site.fingerprint in shown and site.spoken in shown for site in found.sites)
    assert found.certificates[0].fingerprint in shown


def test_add_takes_the_name_from_the_request(kits: Path, tmp_path: Path) -> None:
    request = JoinRequest.make("Genf", make_private_key())
    (tmp_path / "join-request.json").write_text(request.text())
    shown = _call("add", kits, "--request", tmp_path / "join-request.json")
    assert request.fingerprint in shown
    assert Register.load(kits).site("Genf").fingerprint == request.fingerprint
    with pytest.raises(ConfigError, match="Say which site"):
        _call("add", kits)
    with pytest.raises(ConfigError, match="is that of 'Genf', not of 'Zug'"):
        _call("add", kits, "--site", "Zug", "--request", tmp_path / "join-request.json")


def test_rotate_does_one_thing_at_a_time(kits: Path) -> None:
    for arguments in ([], ["--server", "--site", "Basel"]):
        with pytest.raises(ConfigError, match="one thing at a time"):
            _call("rotate", kits, *arguments)
    assert "Renewed" in _call("rotate", kits, "--server", "--days", 40)
    old = Register.load(kits).site("Basel").fingerprint
    shown = _call("rotate", kits, "--site", "Basel")
    new = Register.load(kits).site("Basel").fingerprint
    assert new in shown
    assert new != old
    assert "fedmedpeft provision apply KIT" in shown


def test_revoke_asks_first(kits: Path) -> None:
    done = CliRunner().invoke(
        cli.app, ["provision", "revoke", str(kits), "--site", "Basel", "--reason", "x"], input="n\n"
    )
    assert done.exit_code == 1
    assert Register.load(kits).site("Basel")
    shown = _call("revoke", kits, "--site", "Basel", "--reason", "x", answer="y\n")
    assert "Until then the old key is still let in" in shown
    assert [key.name for key in Register.load(kits).revoked] == ["Basel"]


def test_revoke_can_tell_the_server(kits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, list[str]]] = []

    def register(kit: ServerKit, say: Callable[[str], None]) -> bool:
        revoked = json.loads((kit.directory / "revoked.json").read_text())
        told.append((kit.address, [key["name"] for key in revoked]))
        say("site 'Basel': its revoked key was removed")
        return True

    monkeypatch.setattr(control, "register_sites", register)
    shown = _call("revoke", kits, "--site", "Basel", "--reason", "x", "--apply", "--yes")
    assert told == [("127.0.0.1:8000", ["Basel"])]
    assert "its revoked key was removed" in shown
    assert "Until then" not in shown


def test_apply_does_not_claim_what_was_not_done(kits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "register_sites", lambda kit, say: False)
    shown = _call("apply", kits / "server", code=1)
    assert "The server knows" not in shown


def test_apply_needs_a_kit_and_a_server_that_runs(kits: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no server's kit"):
        _call("apply", tmp_path)
    (kits / "server" / "server.yaml").write_text("host: 127.0.0.1\nport: 1\n")
    with pytest.raises(control.ServerError, match=r"127\.0\.0\.1:1 does not answer"):
        _call("apply", kits / "server")


def test_show_as_json_and_its_exit_code(kits: Path) -> None:
    assert json.loads(_call("show", kits, "--json"))["federation"] == "retina"
    assert "ends" in _call("show", kits)
    _call("rotate", kits, "--server", "--days", 20)
    done = CliRunner().invoke(cli.app, ["provision", "show", str(kits)])
    assert done.exit_code == 1
    assert "Warning: The certificate of the server ends" in done.output


def test_every_command_shows_an_example() -> None:
    for command in ("new", "add", "rotate", "revoke", "apply", "show"):
        assert f"fedmedpeft provision {command} " in _call(command, "--help")
