"""Kits on disk: directories for their owner only, whole or not there, with checksums."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError

Files = Mapping[str, bytes]
"""Path below the kit -> content."""

CHECKSUMS = "SHA256SUMS"
_OWNER_ONLY, _PROGRAM, _FOLDER = 0o600, 0o700, 0o700


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A directory to fill, which becomes ``final`` once all is written, or is gone where something fails.

    Raises:
        ConfigError: ``final`` is there already and not empty, or its parent cannot be written.
    """
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise ConfigError(
            f"'{final}' is there already, and kits are never overwritten. Name another directory; to change what is "
            "there use `fedmedpeft provision add`, `rotate` or `revoke`."
        )
    try:
        final.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER)
        # mkdtemp makes it for its owner only.
        part = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name[:64]}.", suffix=".part"))
    except OSError as error:
        raise ConfigError(f"'{final.parent}' cannot be written: {error.strerror}. Name another directory.") from None
    try:
        yield part
        part.replace(final)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_kit(folder: Path, files: Files) -> None:
    """Write ``files`` and their checksums below ``folder``: files with mode 0600, ``*.sh`` 0700, directories 0700."""
    for name, content in files.items():
        _write(folder, name, content)
    _write(folder, CHECKSUMS, _checksum_lines({name: _sum(content) for name, content in files.items()}))


def update_kit(folder: Path, files: Files, *, removed: tuple[str, ...] = ()) -> None:
    """Replace or add ``files`` one by one, each as a whole, and bring the checksums up to date.

    The directory itself is not replaced: it may be the one that a server runs from. Files that are not in the
    checksums (state, logs) are not touched.
    """
    for name, content in files.items():
        _write(folder, name, content)
    for name in removed:
        (folder / name).unlink(missing_ok=True)
    sums = _read_checksums(folder / CHECKSUMS) | {name: _sum(content) for name, content in files.items()}
    kept = {name: digest for name, digest in sums.items() if name not in removed}
    _write(folder, CHECKSUMS, _checksum_lines(kept))


def _write(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    for parent in reversed(path.parents):
        # Path.mkdir(parents=True) would give only the last one its mode.
        parent.mkdir(exist_ok=True, mode=_FOLDER)
    write_atomically(path, content, _PROGRAM if name.endswith(".sh") else _OWNER_ONLY)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _checksum_lines(sums: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def _read_checksums(path: Path) -> dict[str, str]:
    """Name -> hash, in the format of ``sha256sum``."""
    if not path.is_file():
        return {}
    lines = (line.partition("  ") for line in path.read_text(encoding="utf-8").splitlines())
    return {name: digest for digest, _, name in lines}
