from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fedmedpeft.components import ConfigError
from fedmedpeft.site_identity import (
    JoinRequest,
    PrivateKey,
    fingerprint,
    make_private_key,
    private_key_text,
    public_key_line,
    read_private_key,
    read_public_key,
    spoken_fingerprint,
)

_needs_ssh_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return make_private_key()


def _saved(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "site.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def _openssh(key: ed25519.Ed25519PrivateKey | PrivateKey) -> bytes:
    openssh = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    return key.private_bytes(*openssh)


def test_a_key_comes_back_as_it_was_written(tmp_path: Path, key: PrivateKey) -> None:
    found = read_private_key(_saved(tmp_path, private_key_text(key)))
    assert found.private_numbers() == key.private_numbers()
    assert read_public_key(public_key_line(key.public_key()) + " a comment\n") == key.public_key()


def test_flower_takes_the_key(key: PrivateKey) -> None:
    line = public_key_line(key.public_key())
    assert line.startswith("ecdsa-sha2-nistp384 ")
    assert line.count(" ") == 1
    assert private_key_text(key).startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")


@_needs_ssh_keygen
def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path: Path, key: PrivateKey) -> None:
    path = _saved(tmp_path, private_key_text(key))
    shown = subprocess.run(["ssh-keygen", "-lf", str(path)], capture_output=True, text=True, check=True).stdout
    assert shown.split()[:2] == ["384", fingerprint(key.public_key())]


def test_a_fingerprint_can_be_read_aloud(key: PrivateKey) -> None:
    groups = spoken_fingerprint(key.public_key()).split()
    assert [len(group) for group in groups] == [4] * 8
    assert groups != spoken_fingerprint(make_private_key().public_key()).split()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path, key: PrivateKey, mode: int) -> None:
    with pytest.raises(ConfigError, match=f"mode {mode:04o}: others may read it.*chmod 600"):
        read_private_key(_saved(tmp_path, private_key_text(key), mode))


def test_private_keys_that_flower_cannot_use_are_refused(tmp_path: Path) -> None:
    other_curve, other_kind = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    for content in (_openssh(other_curve), _openssh(other_kind)):
        with pytest.raises(ConfigError, match="of another kind. Expected: elliptic curve P-384"):
            read_private_key(_saved(tmp_path, content))
    with pytest.raises(ConfigError, match="not in OpenSSH's format.*Expected"):
        read_private_key(_saved(tmp_path, b"nothing"))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_private_key(tmp_path / "none.key")


@_needs_ssh_keygen
def test_a_private_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "secret", "-f", str(path)], check=True)
    with pytest.raises(ConfigError, match="has a passphrase. Expected"):
        read_private_key(path)


def test_public_keys_of_another_kind_are_refused() -> None:
    openssh = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    for other in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())):
        with pytest.raises(ConfigError, match="of another kind"):
            read_public_key(other.public_key().public_bytes(*openssh).decode())
    with pytest.raises(ConfigError, match="not a public key"):
        read_public_key("hello")


def test_a_join_request_says_who_and_holds_no_secret(tmp_path: Path, key: PrivateKey) -> None:
    path = tmp_path / "join-request.json"
    path.write_text(JoinRequest.make("Charité (Mitte)", key).text())
    request = JoinRequest.read(path)
    assert (request.name, request.public_key) == ("Charité (Mitte)", public_key_line(key.public_key()))
    assert request.fingerprint == fingerprint(key.public_key())
    assert set(request.versions) == {"python", "fedmedpeft", "flwr"}
    assert "PRIVATE" not in path.read_text()


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "Bern"), ("made", "2020-01-01T00:00:00+00:00"), ("versions", {"flwr": "0"}), ("signature", "AAAA")],
)
def test_a_changed_join_request_is_refused(tmp_path: Path, key: PrivateKey, field: str, value: object) -> None:
    path = _changed(tmp_path, key, {field: value})
    with pytest.raises(ConfigError, match="has changed since it was signed"):
        JoinRequest.read(path)


def test_a_join_request_with_a_swapped_key_is_refused(tmp_path: Path, key: PrivateKey) -> None:
    other = make_private_key().public_key()
    with pytest.raises(ConfigError, match="fingerprint is not that of its key"):
        JoinRequest.read(_changed(tmp_path, key, {"public_key": public_key_line(other)}))
    both = {"public_key": public_key_line(other), "fingerprint": fingerprint(other)}
    with pytest.raises(ConfigError, match="signed with another key"):
        JoinRequest.read(_changed(tmp_path, key, both))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "something"}, "is not a join request"),
        ({"version": 2}, "is of version 2; this program reads version 1"),
        ({"name": 7}, "is not a join request"),
        ({"versions": "1"}, "is not a join request"),
        ({"more": "x"}, "is not a join request"),
        ({"name": "../up"}, "must be 1 to 64 letters"),
    ],
)
def test_what_is_no_join_request_is_refused(
    tmp_path: Path, key: PrivateKey, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        JoinRequest.read(_changed(tmp_path, key, change))


@pytest.mark.parametrize("content", ["", "[]", "{}", "nothing", '{"kind": "x"}', "[" * 9000, " " * 20_001 + "{}"])
def test_garbage_is_no_join_request(tmp_path: Path, content: str) -> None:
    path = tmp_path / "join-request.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="is not a join request"):
        JoinRequest.read(path)


def test_a_private_key_in_the_place_of_a_request_is_named(tmp_path: Path, key: PrivateKey) -> None:
    with pytest.raises(ConfigError, match="holds a private key, which must not leave its site"):
        JoinRequest.read(_saved(tmp_path, private_key_text(key)))


def test_a_name_that_no_site_can_have_is_refused(key: PrivateKey) -> None:
    with pytest.raises(ConfigError, match="Site name '../up' must be"):
        JoinRequest.make("../up", key)


def _changed(folder: Path, key: PrivateKey, change: Mapping[str, object]) -> Path:
    path = folder / "join-request.json"
    path.write_text(json.dumps(json.loads(JoinRequest.make("Basel", key).text()) | dict(change)))
    return path
