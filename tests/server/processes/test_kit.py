from __future__ import annotations

import stat
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fedmedpeft.components import ConfigError
from server.processes.kit import ServerKit
from tests.tls_kit import make_server_kit


def _kit(tmp_path: Path, yaml: str = "host: 127.0.0.1\nport: 8123\n") -> Path:
    directory = make_server_kit(tmp_path / "kit", ("Ulm", "St. Anna (Wien)"))
    (directory / "server.yaml").write_text(yaml)
    return directory


def test_what_a_kit_says(tmp_path: Path) -> None:
    kit = ServerKit.open(_kit(tmp_path))
    assert kit.address == "127.0.0.1:8123"
    assert list(kit.public_keys()) == ["St. Anna (Wien)", "Ulm"]


def test_the_command_line_goes_first(tmp_path: Path) -> None:
    kit = ServerKit.open(_kit(tmp_path), "0.0.0.0", 9999)
    assert (kit.host, kit.port, kit.address) == ("0.0.0.0", 9999, "127.0.0.1:9999")


def test_the_operator_s_flower_speaks_to_this_server_and_to_no_other(tmp_path: Path) -> None:
    kit = ServerKit.open(_kit(tmp_path))
    kit.prepare()
    config = tomllib.loads((kit.operator / "config.toml").read_text())["superlink"]
    assert config[config["default"]] == {
        "address": "127.0.0.1:8123",
        "root-certificates": str(tmp_path / "kit" / "ca.crt"),
    }
    for directory in (kit.state, kit.operator, kit.runs):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("yaml", "error"),
    [
        ("port: 70000\n", "must say `host"),
        ("port: many\n", "must say `host"),
        ("host: 127.0.0.1\n", "must say `host"),
        ("prot: 80\n", "host and port, and nothing else"),
        (": [", "line 1: "),
    ],
)
def test_a_server_yaml_that_cannot_be(tmp_path: Path, yaml: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        ServerKit.open(_kit(tmp_path, yaml))


@pytest.mark.parametrize("name", ["ca.crt", "server.crt", "server.key", "superexec.secret"])
def test_a_file_that_is_missing(tmp_path: Path, name: str) -> None:
    directory = _kit(tmp_path)
    (directory / name).unlink()
    with pytest.raises(ConfigError, match=f"no file '{name}'.*provision"):
        ServerKit.open(directory)


@pytest.mark.parametrize("name", ["server.key", "superexec.secret"])
def test_a_secret_that_others_may_read(tmp_path: Path, name: str) -> None:
    directory = _kit(tmp_path)
    (directory / name).chmod(0o644)
    with pytest.raises(ConfigError, match=f"{name}' may be read by others"):
        ServerKit.open(directory)


@pytest.mark.parametrize(
    ("days", "says"), [(-1, "not now"), (10, "ends on"), (100, "")], ids=["ended", "ends soon", "holds"]
)
def test_a_certificate_that_has_ended_is_said_before_anything_starts(tmp_path: Path, days: int, says: str) -> None:
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, now - timedelta(days=9), now + timedelta(days))
    kit = ServerKit(tmp_path, "127.0.0.1", 8000)
    (tmp_path / "server.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    if days < 0:
        with pytest.raises(ConfigError, match=r"not now.*rotate --server"):
            kit.check_certificate(now)
    else:
        assert says in kit.check_certificate(now)
        assert bool(says) is bool(kit.check_certificate(now))
    (tmp_path / "server.crt").write_text("no certificate")
    with pytest.raises(ConfigError, match="no certificate"):
        kit.check_certificate(now)
