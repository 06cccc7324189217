from __future__ import annotations

import io
import tomllib
import zipfile
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

from server.app_directory import app_project, make_app_directory

_ROOT = Path(__file__).parents[2]


def test_it_says_the_same_as_the_project() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    generated = app_project()
    assert generated["tool"]["flwr"]["app"] == project["tool"]["flwr"]["app"]
    for key in ("name", "version", "description", "license"):
        assert generated["project"][key] == project["project"][key]


def test_flower_packs_exactly_the_two_apps(tmp_path: Path) -> None:
    directory = make_app_directory(tmp_path / "app")
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(directory))) as fab:
        packed = {name for name in fab.namelist() if not name.startswith(".info")}
    sources = {
        str(path.relative_to(_ROOT)) for package in ("clients", "server") for path in (_ROOT / package).rglob("*.py")
    }
    assert packed == sources | {"pyproject.toml"}
    assert (directory / "server" / "app.py").read_bytes() == (_ROOT / "server" / "app.py").read_bytes()
