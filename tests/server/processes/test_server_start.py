from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.file_lock import locked
from server.processes import start_command
from server.processes.control import ServerError
from server.processes.kit import ServerKit
from server.processes.start_command import (
    MARKER,
    SUPEREXEC,
    SUPERLINK,
    explain,
    server_processes,
    show_commands,
    start_server,
)
from tests.tls_kit import make_server_kit


@pytest.fixture
def kit(tmp_path: Path) -> ServerKit:
    return ServerKit.open(make_server_kit(tmp_path / "kit", ("Ulm",)), "0.0.0.0", 8123)


def test_the_safe_settings(kit: ServerKit) -> None:
    superlink, superexec = server_processes(kit, {"PATH": "/bin"})
    assert (superlink.name, superexec.name) == (SUPERLINK, SUPEREXEC)
    text = " ".join(superlink.command)
    for part in (
        "--host 0.0.0.0 --port 8123",
        f"--ssl-certfile {kit.directory}/server.crt --ssl-keyfile {kit.directory}/server.key",
        "--enable-supernode-auth",
        f"--isolation process --superexec-auth-secret-file {kit.directory}/superexec.secret",
        f"--database {kit.state}/superlink.db",
        "--disable-runtime-dependency-installation",
    ):
        assert part in text
    assert "--insecure" not in text + " ".join(superexec.command)
    assert "--runtime-api-address 127.0.0.1:8123" in " ".join(superexec.command)
    for child in (superlink, superexec):
        assert child.environment["FLWR_TELEMETRY_ENABLED"] == "0"
        assert child.environment[MARKER] == str(kit.state)


def test_the_same_as_plain_commands(kit: ServerKit, capsys: pytest.CaptureFixture[str]) -> None:
    show_commands(kit, {"PATH": "/bin"})
    shown = capsys.readouterr().out
    assert "flower-superlink --host 0.0.0.0" in shown
    assert f"flwr supernode register {kit.directory}/sites/Ulm.pub --name Ulm" in shown
    assert MARKER not in shown
    assert (kit.directory / "superexec.secret").read_text() not in shown


def test_one_per_kit(kit: ServerKit) -> None:
    with locked(kit.state / "start.lock", wait=False), pytest.raises(ConfigError, match="started already"):
        start_server(kit, {}, once=True)


def test_an_open_port_is_warned_of(
    kit: ServerKit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(start_command, "server_processes", lambda kit, environ: [])
    monkeypatch.setattr(start_command.Supervisor, "run", lambda self: 0)
    assert start_server(kit, {}, once=True) == 0
    assert "WARNING: who reaches this port controls every run" in capsys.readouterr().out


def test_a_superlink_that_hangs_is_started_again(kit: ServerKit) -> None:
    superlink, superexec = server_processes(kit, {})
    assert superlink.hung_after == 60.0
    assert superexec.hung_after is None


def test_a_registration_that_fails_ends_nothing(
    kit: ServerKit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(kit: ServerKit, say: object) -> None:
        raise ServerError("gone.")

    monkeypatch.setattr(start_command, "register_sites", fails)
    server_processes(kit, {})[0].when_ready()
    assert "gone. Try `fedmedpeft server register" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("ERROR:    [Errno 98] ... address already in use", "--port or in server.yaml"),
        ("sqlite3.OperationalError: database is locked", "locked by another process"),
        ("ERROR :     Exit Code: 105", "of another version of Flower"),
        ("INFO : noise\nERROR : the real reason\nINFO : Shutting down", "the real reason"),
    ],
)
def test_why_it_ended(tail: str, words: str) -> None:
    assert words in explain(1, tail.splitlines()).sentence
