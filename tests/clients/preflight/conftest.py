from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image

from clients.preflight.facts import Facts
from clients.site_file import SiteFile
from tests.clients.preflight.hospital_files import save_key
from tests.clients.preflight.tls_server import Authority

MakeSite = Callable[..., Path]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def site_key(tmp_path: Path) -> Path:
    return save_key(tmp_path / "site.key", ec.generate_private_key(ec.SECP384R1()))


@pytest.fixture
def make_site(tmp_path: Path, authority: Authority, site_key: Path, tiny_backbone: Path) -> MakeSite:
    """Writes a sound ``site.yaml``, with some keys replaced (``server={"address": ...}`` within its section)."""
    (tmp_path / "ca.crt").write_bytes(authority.pem)

    def make(**changes: Any) -> Path:
        content: dict[str, Any] = {
            "site": "hospital-a",
            "server": {"address": "127.0.0.1:1", "ca-certificate": "ca.crt", "key": site_key.name},
            "data": {"source": "phantoms(images=40, scanners=1, size=32)"},
            "backbones": {"embedded": str(tiny_backbone)},
            "device": "cpu",
        }
        for key, value in changes.items():
            old = content.get(key)
            content[key] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        path = tmp_path / "site.yaml"
        path.write_text(yaml.safe_dump(content))
        path.chmod(0o600)
        return path

    return make


@pytest.fixture
def facts_of(make_site: MakeSite) -> Callable[..., Facts]:
    """Facts with the site file loaded."""

    def facts(**changes: Any) -> Facts:
        found = Facts(make_site(**changes))
        found.site = SiteFile.load(found.path)
        return found

    return facts


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[..., str]:
    """Writes images and their table; gives the data source of them."""

    def make(rows: list[tuple[str, str, str, str]], columns: str = "file,label,patient,split") -> str:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        names = columns.split(",")
        for row in rows:
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / row[0])
        lines = [",".join(value for value, name in zip(row, _ALL, strict=True) if name in names) for row in rows]
        (folder / "table.csv").write_text("\n".join([columns, *lines]))
        return f"manifest(path={folder / 'table.csv'})"

    return make


_ALL = ("file", "label", "patient", "split")
