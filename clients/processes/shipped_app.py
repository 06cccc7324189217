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

from clients.deployment.other_code import APP, PROJECT_FILE, PROJECT_NAME, Difference, What
from fedmedpeft import __version__

_PACKAGES = ("clients", "server")
_MOST_OF_PROJECT = 1_000_000
_MOST_FILES = 10_000


class AppDiffersError(Exception):
    """The app that came is not the one installed here. The message names a file and is safe to send."""

    def __init__(self, what: What, name: object = "") -> None:
        self.difference = Difference.of(what, name)
        super().__init__(str(self.difference))


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
        raise AppDiffersError("unreadable") from None


def _check(archive: zipfile.ZipFile) -> None:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > _MOST_FILES or len({entry.filename for entry in entries}) < len(entries):
        raise AppDiffersError("too-many-files")
    shipped = {entry.filename: entry for entry in entries}
    if PROJECT_FILE not in shipped or shipped[PROJECT_FILE].file_size > _MOST_OF_PROJECT:
        raise AppDiffersError("no-project")
    _check_project(archive.read(PROJECT_FILE))
    installed = _installed_sources()
    python = {name: entry for name, entry in shipped.items() if not _is_inert(name)}
    for name in sorted(set(python) - set(installed)):
        raise AppDiffersError("not-installed", name)
    for name, path in sorted(installed.items()):
        if name not in python:
            if name.startswith("clients/"):
                raise AppDiffersError("missing", name)
            continue
        # The sizes first: no more is ever decompressed than what is installed.
        if python[name].file_size != path.stat().st_size or archive.read(name) != path.read_bytes():
            raise AppDiffersError("differs", name)


def _check_project(content: bytes) -> None:
    """The project's name, version and components. Raises AppDiffersError."""
    try:
        project = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise AppDiffersError("unreadable-project") from None
    name, version = _at(project, "project", "name"), _at(project, "project", "version")
    if name != PROJECT_NAME:
        raise AppDiffersError("name", name)
    if version != __version__:
        raise AppDiffersError("version", version)
    if _at(project, "tool", "flwr", "app", "components", "clientapp") != APP:
        raise AppDiffersError("component")


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
