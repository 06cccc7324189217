"""What lies in each party's kit."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from clients.policy_section import PolicySection
from clients.site_file import DataSection, ServerSection, SiteFile, WorkerSection
from fedmedpeft.site_identity import PrivateKey, private_key_text, read_private_key, read_public_key
from server.processes.kit import ServerKit
from server.provisioning.authority import Authority, certificate_fingerprint
from tests.server.provisioning.conftest import ODD_NAME

_SITES = ("Basel", "Bern", ODD_NAME)
_KITS = ("server", *(f"sites/{name}" for name in _SITES))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_every_secret_is_in_its_kit_and_nowhere_else(made: Path, bern_key: PrivateKey) -> None:
    homes = {
        "authority/ca.key": made / "authority" / "ca.key",
        "server/server.key": made / "server" / "server.key",
        "server/superexec.secret": made / "server" / "superexec.secret",
        "sites/Basel/site.key": made / "sites" / "Basel" / "site.key",
        f"sites/{ODD_NAME}/site.key": made / "sites" / ODD_NAME / "site.key",
    }
    secrets = {where: path.read_bytes() for where, path in homes.items()}
    secrets["with Bern only"] = private_key_text(bern_key)
    for where, secret in secrets.items():
        # A line from the middle: of a key in PEM the first and the last say nothing.
        lines = secret.strip().splitlines()
        holders = {
            path.relative_to(made).as_posix() for path in _files(made) if lines[len(lines) // 2] in path.read_bytes()
        }
        assert holders == ({where} if where in homes else set()), where
    with_keys = {path.relative_to(made).as_posix() for path in _files(made) if b"PRIVATE KEY" in path.read_bytes()}
    assert with_keys == set(homes) - {"server/superexec.secret"}


def test_everything_is_for_its_owner_only(made: Path) -> None:
    modes = {path: path.stat().st_mode & 0o777 for path in (made, *made.rglob("*"))}
    for path, mode in modes.items():
        assert mode == (0o700 if path.is_dir() or path.suffix == ".sh" else 0o600), path


def test_checksums_name_every_file(made: Path) -> None:
    for kit in (made / "authority", made / "server", *(made / "sites").iterdir()):
        lines = (kit / "SHA256SUMS").read_text().splitlines()
        named = {line.partition("  ")[2] for line in lines}
        assert named == {path.relative_to(kit).as_posix() for path in _files(kit)} - {"SHA256SUMS"}
        if shutil.which("sha256sum"):
            subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=kit, check=True)


def test_the_secret_of_superexec_is_random_bytes(made: Path) -> None:
    assert len(base64.b64decode((made / "server" / "superexec.secret").read_bytes(), validate=True)) == 32


def test_the_server_knows_the_public_keys_by_name(made: Path, bern_key: PrivateKey) -> None:
    keys = {path.stem: read_public_key(path.read_text()) for path in (made / "server" / "sites").iterdir()}
    assert keys == {
        "Basel": read_private_key(made / "sites" / "Basel" / "site.key").public_key(),
        "Bern": bern_key.public_key(),
        ODD_NAME: read_private_key(made / "sites" / ODD_NAME / "site.key").public_key(),
    }


@pytest.mark.parametrize("name", _SITES)
def test_a_site_file_loads_and_keeps_the_defaults(made: Path, name: str) -> None:
    kit = made / "sites" / name
    file = SiteFile.load(kit / "site.yaml")
    assert file.site == name
    assert (file.server.address, file.path(file.server.ca_certificate)) == ("fl.example.org:443", kit / "ca.crt")
    assert file.path(file.server.key) == kit / "site.key"
    assert (file.policy, file.worker) == (PolicySection(), WorkerSection())
    assert file == SiteFile(site=name, server=file.server, data=file.data, directory=kit)


def test_a_site_file_shows_every_key(made: Path) -> None:
    content = yaml.safe_load((made / "sites" / "Basel" / "site.yaml").read_text())
    sections: dict[str, type[BaseModel]] = {"server": ServerSection, "data": DataSection}
    sections |= {"policy": PolicySection, "worker": WorkerSection}
    assert set(content) == _keys(SiteFile) - {"directory"}
    for name, model in sections.items():
        assert set(content[name]) == _keys(model)


def _keys(model: type[BaseModel]) -> set[str]:
    return {name.replace("_", "-") for name in model.model_fields}


def test_the_server_starts_from_its_kit(made: Path) -> None:
    assert yaml.safe_load((made / "server" / "server.yaml").read_text()) == {"host": "127.0.0.1", "port": 8000}
    kit = ServerKit.open(made / "server")
    assert (kit.host, kit.port) == ("127.0.0.1", 8000)
    assert set(kit.public_keys()) == set(_SITES)


def test_readmes_show_what_to_compare(made: Path) -> None:
    authority = certificate_fingerprint(Authority.load(made / "authority").certificate)
    for readme in made.rglob("README.md"):
        assert authority in readme.read_text(), readme
    bern, basel = ((made / "sites" / name / "README.md").read_text() for name in ("Bern", "Basel"))
    assert "Your private key is not in this kit" in bern
    assert "the coordinator made it" in basel


def test_the_proxy_shows_the_fleet_only(made: Path) -> None:
    lines = (made / "server" / "nginx" / "fedmedpeft.conf").read_text().splitlines()
    places = [line.strip() for line in lines if line.strip().startswith("location")]
    assert places == ['location ~ "^/v1/fleet/([a-z-]+)$" {', "location = /health {", "location / {"]


def test_the_proxy_hands_on_nothing_that_a_stranger_chose_of_the_address(made: Path) -> None:
    """nginx matches the path as it reads it; by default it would hand it on as it came, and the Host with it."""
    lines = [line.strip() for line in (made / "server" / "nginx" / "fedmedpeft.conf").read_text().splitlines()]
    assert "proxy_pass https://127.0.0.1:8000/v1/fleet/$1;" in lines
    assert [line.split()[-1] for line in lines if line.startswith("proxy_set_header      Host")] == ["localhost;"]


@pytest.mark.parametrize("kit", ["server", "sites/Bern"])
def test_readmes_name_installed_files_by_their_whole_path(made: Path, kit: str) -> None:
    """Once it is the service's user's, who installs can neither enter the directory nor name files from there."""
    lines = [line.strip() for line in (made / kit / "README.md").read_text().splitlines()]
    called = [line for line in lines if line.startswith("sudo -u fedmedpeft ")]
    assert called
    assert all(line.split()[-1].startswith("/opt/fedmedpeft/") for line in called), called
    assert not [line for line in lines if line.startswith("cd /opt")]
    assert "umask 022" in lines


@pytest.mark.parametrize("script", [f"{kit}/{name}" for kit in _KITS for name in ("start.sh", "container/run.sh")])
def test_scripts_are_shell(made: Path, script: str) -> None:
    subprocess.run(["sh", "-n", str(made / script)], check=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize(
    "unit", ["server/systemd/fedmedpeft-server.service", "sites/Bern/systemd/fedmedpeft-site.service"]
)
def test_systemd_understands_the_units(made: Path, tmp_path: Path, unit: str) -> None:
    """Warnings (an unknown key) go to stderr and leave the exit code 0."""
    program = tmp_path / "venv" / "bin" / "fedmedpeft"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    here = tmp_path / Path(unit).name
    here.write_text((made / unit).read_text().replace("/opt/fedmedpeft", str(tmp_path)))
    done = subprocess.run(["systemd-analyze", "verify", str(here)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "unit", ["server/systemd/fedmedpeft-server.service", "sites/Bern/systemd/fedmedpeft-site.service"]
)
def test_services_come_back_however_often_they_end(made: Path, unit: str) -> None:
    lines = (made / unit).read_text().splitlines()
    assert {"Restart=always", "RestartSec=15", "StartLimitIntervalSec=0", "NoNewPrivileges=yes"} <= set(lines)


def test_the_site_as_two_users_may_do_what_a_second_start_needs(made: Path) -> None:
    """Root without CAP_FOWNER cannot change the mode of a directory that is Flower's user's by then."""
    lines = (made / "sites/Bern/systemd/fedmedpeft-site.service").read_text().splitlines()
    (granted,) = [line.partition("=")[2].split() for line in lines if line.startswith("# CapabilityBoundingSet=")]
    needed = {"SETUID", "SETGID", "CHOWN", "FOWNER", "KILL", "DAC_OVERRIDE"}
    assert set(granted) == {f"CAP_{name}" for name in needed}
