"""Making kits, and what happens to them later."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from cryptography import x509

from fedmedpeft.components import ConfigError
from fedmedpeft.file_lock import locked
from fedmedpeft.site_identity import JoinRequest, PrivateKey, make_private_key, public_key_line, read_private_key
from server.provisioning.authority import Authority
from server.provisioning.federation_file import FederationFile
from server.provisioning.kits import add_site, new_kits, revoke_site, rotate_server, rotate_site
from server.provisioning.register import Register
from tests.server.provisioning.conftest import ODD_NAME

_FILE = FederationFile.model_validate(
    {"name": "retina", "server": {"address": "fl.example.org:443"}, "sites": [{"name": "Basel"}, {"name": "Bern"}]}
)


def _tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _request(name: str) -> JoinRequest:
    return JoinRequest.make(name, make_private_key())


def _check_sums(kit: Path) -> None:
    for line in (kit / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        assert digest == hashlib.sha256((kit / name).read_bytes()).hexdigest(), name


def test_kits_are_never_overwritten(made: Path) -> None:
    before = _tree(made)
    with pytest.raises(ConfigError, match="is there already, and kits are never overwritten"):
        new_kits(_FILE, made, made)
    assert _tree(made) == before


def test_an_empty_directory_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "kits").mkdir()
    new_kits(_FILE, tmp_path, tmp_path / "kits")
    assert [site.name for site in Register.load(tmp_path / "kits").sites] == ["Basel", "Bern"]


def test_what_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Register, "save", full)
    with pytest.raises(OSError, match="No space"):
        new_kits(_FILE, tmp_path, tmp_path / "kits")
    assert list(tmp_path.iterdir()) == []


def test_a_join_request_of_another_site_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bern.json").write_text(_request("Genf").text())
    file = _FILE.model_copy(update={"sites": [_FILE.sites[0].model_copy(update={"key": "bern.json"})]})
    with pytest.raises(ConfigError, match="is that of 'Genf', not of 'Basel'"):
        new_kits(file, tmp_path, tmp_path / "kits")
    assert not (tmp_path / "kits").exists()


def test_a_site_is_added_with_a_key_from_here(kits: Path) -> None:
    record = add_site(kits, "Genf")
    key = read_private_key(kits / "sites" / "Genf" / "site.key")
    assert (kits / "server" / "sites" / "Genf.pub").read_text() == public_key_line(key.public_key()) + "\n"
    assert Register.load(kits).site("Genf") == record
    _check_sums(kits / "server")
    _check_sums(kits / "sites" / "Genf")


def test_a_site_is_added_with_its_own_key(kits: Path) -> None:
    request = _request("Genf")
    assert add_site(kits, "Genf", request).fingerprint == request.fingerprint
    assert not (kits / "sites" / "Genf" / "site.key").exists()
    assert (kits / "server" / "sites" / "Genf.pub").read_text() == request.public_key + "\n"


def test_sites_and_keys_are_there_once(kits: Path, bern_key: PrivateKey) -> None:
    before = _tree(kits)
    for name in ("Basel", "basel"):
        with pytest.raises(ConfigError, match="takes part already"):
            add_site(kits, name)
    with pytest.raises(ConfigError, match="in use by 'Bern' already"):
        add_site(kits, "Genf", JoinRequest.make("Genf", bern_key))
    with pytest.raises(ConfigError, match="must be 1 to 64"):
        add_site(kits, "../Genf")
    assert _tree(kits) == before


def test_a_kit_left_over_from_an_interrupted_command_is_not_overwritten(kits: Path) -> None:
    (kits / "sites" / "Genf").mkdir()
    (kits / "sites" / "Genf" / "note").write_text("x")
    with pytest.raises(ConfigError, match="Genf' is there already"):
        add_site(kits, "Genf")


def test_a_rotated_key_is_new_and_the_old_one_is_never_taken_again(kits: Path) -> None:
    old = Register.load(kits).site("Basel")
    changed_by_hand = kits / "sites" / "Basel" / "site.yaml"
    changed_by_hand.write_text("site: Basel\n")
    record, revoked = rotate_site(kits, "Basel")
    key = read_private_key(kits / "sites" / "Basel" / "site.key")
    assert record.public_key == public_key_line(key.public_key()) != old.public_key == revoked.public_key
    assert (kits / "server" / "sites" / "Basel.pub").read_text().strip() == record.public_key
    assert record.fingerprint in (kits / "sites" / "Basel" / "README.md").read_text()
    assert changed_by_hand.read_text() == "site: Basel\n"
    listed = json.loads((kits / "server" / "revoked.json").read_text())
    assert [(entry["name"], entry["public_key"]) for entry in listed] == [("Basel", old.public_key)]
    _check_sums(kits / "server")
    assert len(Register.load(kits).sites) == 3


def test_a_kit_that_was_handed_over_and_deleted_can_be_rotated(kits: Path) -> None:
    shutil.rmtree(kits / "sites")
    rotate_site(kits, "Basel")
    assert (kits / "sites" / "Basel").stat().st_mode & 0o777 == 0o700
    assert (kits / "sites" / "Basel" / "site.key").is_file()


def test_a_site_that_makes_its_keys_rotates_with_a_request(kits: Path) -> None:
    with pytest.raises(ConfigError, match="'Bern' makes its keys itself.*--request"):
        rotate_site(kits, "Bern")
    request = _request("Bern")
    old = Register.load(kits).site("Bern").public_key
    rotate_site(kits, "Bern", request)
    assert (kits / "sites" / "Bern" / "site.pub").read_text().strip() == request.public_key
    assert Register.load(kits).revoked[0].public_key == old
    assert not (kits / "sites" / "Bern" / "site.key").exists()


def test_a_site_that_begins_to_make_its_keys_has_none_in_its_kit(kits: Path) -> None:
    rotate_site(kits, "Basel", _request("Basel"))
    assert not (kits / "sites" / "Basel" / "site.key").exists()
    assert "site.key" not in (kits / "sites" / "Basel" / "SHA256SUMS").read_text()


def test_a_revoked_site_is_out_for_good(kits: Path, bern_key: PrivateKey) -> None:
    revoke_site(kits, "Bern", "left the study")
    assert [site.name for site in Register.load(kits).sites] == ["Basel", ODD_NAME]
    assert not (kits / "server" / "sites" / "Bern.pub").exists()
    assert "Bern" not in (kits / "server" / "SHA256SUMS").read_text()
    assert [entry["reason"] for entry in json.loads((kits / "server" / "revoked.json").read_text())] == [
        "left the study"
    ]
    with pytest.raises(ConfigError, match="No site is called 'Bern'"):
        revoke_site(kits, "Bern", "again")
    with pytest.raises(ConfigError, match=r"was revoked on .* \('Bern': left the study.*never takes a key again"):
        add_site(kits, "Bern", JoinRequest.make("Bern", bern_key))
    assert add_site(kits, "Bern", _request("Bern")).key_made == "site"


def test_the_server_gets_a_new_certificate_of_the_same_authority(kits: Path) -> None:
    before = _tree(kits)
    rotate_server(kits, kits / "authority", days=30)
    after = _tree(kits)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"server/server.key", "server/server.crt", "server/SHA256SUMS"}
    leaf = x509.load_pem_x509_certificates(after["server/server.crt"])[0]
    leaf.verify_directly_issued_by(Authority.load(kits / "authority").certificate)
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 30
    _check_sums(kits / "server")


def test_another_authority_does_not_sign_for_these_kits(kits: Path, tmp_path: Path) -> None:
    new_kits(_FILE, tmp_path, tmp_path / "other")
    before = _tree(kits)
    with pytest.raises(ConfigError, match="is not the authority of"):
        rotate_server(kits, tmp_path / "other" / "authority")
    shutil.move(kits / "authority" / "ca.key", tmp_path)
    with pytest.raises(ConfigError, match="--authority DIR"):
        rotate_server(kits, kits / "authority")
    assert {**_tree(kits), "authority/ca.key": before["authority/ca.key"]} == before


def test_one_command_at_a_time(kits: Path) -> None:
    with locked(kits / ".lock", wait=False), pytest.raises(ConfigError, match="Another `fedmedpeft provision`"):
        add_site(kits, "Genf")


def test_what_holds_no_kits(tmp_path: Path, kits: Path) -> None:
    with pytest.raises(ConfigError, match="holds no kits"):
        add_site(tmp_path, "Genf")
    assert [path.name for path in tmp_path.iterdir()] == ["kits"]
    (kits / "register.json").write_text("{}")
    with pytest.raises(ConfigError, match="is damaged: 'name' is missing"):
        add_site(kits, "Genf")
