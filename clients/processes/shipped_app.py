"""The app that a server sends, held against the one that is installed here. Nothing of it is unpacked or run.

Flower ships an app's code to every site with every run (a FAB, a zip file). A hospital runs what it has installed: what
comes is read in memory, and has to say the same, byte for byte.
"""

from __future__ import annotations

import io
import tomllib
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedmedpeft import __version__

APP = "clients.app:app"
_NAME = "fedmedpeft"
_PACKAGES = ("clients", "server")
_PROJECT = "pyproject.toml"
_MOST_OF_PROJECT = 1_000_000
_MOST_FILES = 10_000
_SHOWN = 100


class AppDiffersError(Exception):
    """The app that came is not the one installed here. The message names a file and is safe to send."""


def check_shipped_app(content: bytes) -> None:
    """Compare a FAB's Python files and what it says about itself with this installation.

    Everything under ``clients/`` must be there and be equal. Of ``server/`` what is there must be equal, and nothing
    else may be Python. Other files are neither read nor unpacked.

    Raises:
        AppDiffersError: it is no FAB, or differs.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check(archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, KeyError):
        raise AppDiffersError("it cannot be read") from None


def _check(archive: zipfile.ZipFile) -> None:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > _MOST_FILES or len({entry.filename for entry in entries}) < len(entries):
        raise AppDiffersError("it has too many files, or one of them twice")
    shipped = {entry.filename: entry for entry in entries}
    if _PROJECT not in shipped or shipped[_PROJECT].file_size > _MOST_OF_PROJECT:
        raise AppDiffersError(f"{_PROJECT} is missing or too large")
    _check_project(archive.read(_PROJECT))
    installed = _installed_sources()
    python = {name: entry for name, entry in shipped.items() if not _is_inert(name)}
    for name in sorted(set(python) - set(installed)):
        raise AppDiffersError(f"{_shown(name)} is not installed")
    for name, path in sorted(installed.items()):
        if name not in python:
            if name.startswith("clients/"):
                raise AppDiffersError(f"{name} is missing")
            continue
        # The sizes first: no more is ever decompressed than what is installed.
        if python[name].file_size != path.stat().st_size or archive.read(name) != path.read_bytes():
            raise AppDiffersError(f"{name} differs")


def _check_project(content: bytes) -> None:
    """The project's name, version and components. Raises AppDiffersError."""
    try:
        project = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise AppDiffersError(f"{_PROJECT} cannot be read") from None
    if _at(project, "project", "name") != _NAME:
        raise AppDiffersError(f"its name is {_shown(_at(project, 'project', 'name'))}, not {_NAME}")
    if _at(project, "project", "version") != __version__:
        raise AppDiffersError(f"version {_shown(_at(project, 'project', 'version'))}, and here {__version__}")
    if _at(project, "tool", "flwr", "app", "components", "clientapp") != APP:
        raise AppDiffersError(f"its ClientApp is not {APP}")


def _at(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def _is_inert(name: str) -> bool:
    """Whether nothing could run it, even if it were unpacked: text and settings, of which Flower packs some."""
    return Path(name).suffix in (".toml", ".md", ".yaml", ".yml", ".json", ".jsonl") or name in (
        "LICENSE",
        ".info/CONTENT",
    )


def _installed_sources() -> dict[str, Path]:
    """The Python files of the packages that travel, by their names in a FAB."""
    found: dict[str, Path] = {}
    for package in _PACKAGES:
        spec = find_spec(package)
        for location in spec.submodule_search_locations or () if spec else ():
            found |= {
                f"{package}/{path.relative_to(location).as_posix()}": path for path in Path(location).rglob("*.py")
            }
    return found


def _shown(value: Any) -> str:
    """What somebody else wrote, fit for a log and a message."""
    text = "".join(letter if letter.isprintable() and letter.isascii() else "?" for letter in str(value))
    return f"'{text[:_SHOWN]}'"
