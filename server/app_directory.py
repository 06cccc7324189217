"""The directory that ``flwr run`` packs: the two apps and a pyproject.toml, the same in every kind of installation.

An installed wheel has no pyproject.toml, and Flower ships whatever a working tree happens to hold. So a small copy is
made for each run. The site's own installed library does the work; only these two packages travel.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import tomli_w

from fedmedpeft import __version__
from fedmedpeft.config import RunConfig

PACKAGES = ("clients", "server")
_DESCRIPTION = "Federated, parameter-efficient fine-tuning of frozen vision backbones for hospitals, over Flower"


def app_project() -> dict[str, Any]:
    """The content of the generated pyproject.toml."""
    return {
        "project": {
            "name": "fedmedpeft",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": "Apache-2.0",
            "dependencies": [f"fedmedpeft=={__version__}"],
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "fedmedpeft",
                    "fab-include": [f"{package}/**" for package in PACKAGES],
                    "components": {"serverapp": "server.app:app", "clientapp": "clients.app:app"},
                    "config": RunConfig().to_mapping(),
                }
            }
        },
    }


def make_app_directory(directory: Path) -> Path:
    """Write pyproject.toml and copy the apps' sources into ``directory``, which Flower wants named like a word."""
    directory.mkdir(parents=True)
    (directory / "pyproject.toml").write_text(tomli_w.dumps(app_project()), encoding="utf-8")
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError(f"The package '{package}' is not installed; install fedmedpeft again.")
        for location in spec.submodule_search_locations:
            shutil.copytree(location, directory / package, ignore=_all_but_python, dirs_exist_ok=True)
    return directory


def _all_but_python(folder: str, names: list[str]) -> list[str]:
    return [
        name for name in names if name == "__pycache__" or not (name.endswith(".py") or (Path(folder) / name).is_dir())
    ]
