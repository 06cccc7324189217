"""Kits of three sites, made once; tests that change them get a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fedmedpeft.site_identity import JoinRequest, PrivateKey, make_private_key
from server.provisioning.federation_file import FederationFile
from server.provisioning.kits import new_kits

ODD_NAME = "St. John's: A&B (Nord)"


@pytest.fixture(scope="session")
def bern_key() -> PrivateKey:
    """The private key that Bern made itself."""
    return make_private_key()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, bern_key: PrivateKey) -> Path:
    """Kits for Basel and a site with an odd name (keys made here), and Bern (key made there). Not to be changed."""
    folder = tmp_path_factory.mktemp("federation")
    (folder / "bern.json").write_text(JoinRequest.make("Bern", bern_key).text())
    file = FederationFile.model_validate(
        {
            "name": "retina",
            "server": {"address": "fl.example.org:443", "hosts": ["10.1.2.3"]},
            "sites": [{"name": "Basel"}, {"name": "Bern", "key": "bern.json"}, {"name": ODD_NAME}],
        }
    )
    new_kits(file, folder, folder / "kits")
    return folder / "kits"


@pytest.fixture
def kits(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(made, tmp_path / "kits")
