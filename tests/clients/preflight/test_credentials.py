from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from shutil import which
from subprocess import run

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from clients.preflight.credentials import check_authority, check_key
from clients.preflight.facts import Facts
from fedmedpeft.site_identity import fingerprint
from tests.clients.preflight.hospital_files import save_key
from tests.clients.preflight.tls_server import Authority


def test_a_sound_key(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of()
    result = check_key(facts)
    assert result.status == "pass"
    assert fingerprint(facts.key.public_key()) in result.text


def test_a_key_with_a_passphrase(facts_of: Callable[..., Facts], site_key: Path) -> None:
    if which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen here")
    facts = facts_of()
    run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(site_key)], check=True)
    result = check_key(facts)
    assert (result.status, "passphrase" in result.text) == ("fail", True)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_may_read(facts_of: Callable[..., Facts], site_key: Path, mode: int) -> None:
    site_key.chmod(mode)
    result = check_key(facts_of())
    assert (result.status, f"{mode:04o}" in result.text) == ("fail", True)


def test_keys_that_flower_does_not_take(facts_of: Callable[..., Facts], site_key: Path) -> None:
    facts = facts_of()
    p384 = ec.generate_private_key(ec.SECP384R1())
    wrong: dict[str, Callable[[], object]] = {
        "P-384": lambda: save_key(site_key, ec.generate_private_key(ec.SECP256R1())),
        "of the elliptic curve": lambda: save_key(site_key, ed25519.Ed25519PrivateKey.generate()),
        "OpenSSH": lambda: save_key(site_key, p384, openssh=False),
        "private key": lambda: site_key.write_text("nothing"),
        "cannot be read": site_key.unlink,
    }
    for word, make in wrong.items():
        make()
        result = check_key(facts)
        assert (result.status, word in result.text) == ("fail", True), result.text


def test_a_key_of_another_user(facts_of: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of()
    here = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: here + 1)
    assert check_key(facts).status == "fail"


def test_the_key_is_the_worker_s_and_not_flower_s_user_s(facts_of: Callable[..., Facts]) -> None:
    """Flower's process gets it through a pipe; a start is refused where that user could read it."""
    assert check_key(facts_of(worker={"flower-user": "nobody"})).status == "pass"


@pytest.mark.parametrize(("days", "status"), [(365, "pass"), (10, "warn"), (-3, "fail")])
def test_how_long_the_authority_lasts(facts_of: Callable[..., Facts], tmp_path: Path, days: float, status: str) -> None:
    facts = facts_of()
    (tmp_path / "ca.crt").write_bytes(Authority(days=days).pem)
    assert check_authority(facts).status == status


def test_what_is_no_authority(facts_of: Callable[..., Facts], tmp_path: Path, authority: Authority) -> None:
    facts = facts_of()
    file = tmp_path / "ca.crt"
    key_and_leaf = authority.server(tmp_path).read_bytes()
    leaf = key_and_leaf[key_and_leaf.index(b"-----BEGIN CERT") :]
    contents = {"not of an authority": leaf, "private key": key_and_leaf, "no certificate": b"nothing"}
    for words, content in contents.items():
        file.write_bytes(content)
        result = check_authority(facts)
        assert (result.status, words in result.text) == ("fail", True), result.text
    file.unlink()
    assert check_authority(facts).status == "fail"
