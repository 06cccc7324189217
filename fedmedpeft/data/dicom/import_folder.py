"""One call of the import with its places checked: what is read, what is written, where the key lies."""

from __future__ import annotations

import csv
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom.identity import SiteKey
from fedmedpeft.data.dicom.image_folder import PRIVATE_FILE, PRIVATE_FOLDER, ImageFolder
from fedmedpeft.data.dicom.importing import DicomImport, ImportSettings
from fedmedpeft.data.dicom.labels import Labels
from fedmedpeft.data.dicom.report import ImportReport, began_with
from fedmedpeft.file_lock import locked

OPEN_FOLDER = "folder that others on this machine may open: chmod 700 it"
_DETAILS, _LOCK = "skipped.csv", ".lock"


def import_folder(
    source: Path,
    out: Path,
    labels: Labels,
    settings: ImportSettings,
    *,
    key: Path | None = None,
    details: bool = False,
    step: Callable[[], None] = lambda: None,
) -> ImportReport:
    """Import the DICOM files below ``source`` into ``out``, which is made, for its owner alone.

    Args:
        key: the site's key; made where ``out`` is new. Default: ``out`` with ``.key`` after its name.
        details: write ``skipped.csv``: each file left out, by its path.
        step: called after each file.

    Raises:
        ConfigError: a place does not fit, or ``out`` was made in another way.
        DataError: ``out`` cannot be written.
    """
    source, out = source.expanduser().resolve(), out.expanduser().resolve()
    key = key.expanduser().absolute() if key else out.with_name(f"{out.name}.key")
    _check_places(source, out, key)
    out.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    try:
        with locked(out / _LOCK, wait=False):
            folder = ImageFolder(out)
            work = DicomImport(source, folder, SiteKey.open(key, make=not began_with(out)), labels, settings, step=step)
            left_out: list[tuple[str, str]] = []
            if details:
                work.left_out = lambda *line: left_out.append(line)
            if out.stat().st_mode & 0o077:
                work.report.notes[OPEN_FOLDER] = 1
            report = work.run()
            _write_details(out / _DETAILS, left_out if details else None)
            return report
    except BlockingIOError:
        raise ConfigError(f"--out '{out}': another import is writing there. Wait until it has ended.") from None


def _check_places(source: Path, out: Path, key: Path) -> None:
    if not source.is_dir():
        raise ConfigError(f"SRC '{source}' is not a folder. Name the folder that holds the DICOM files.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out '{out}' is a file. Name a folder; it is made where it does not exist.")
    if out.is_relative_to(source) or source.is_relative_to(out):
        raise ConfigError(f"--out '{out}' and SRC '{source}' lie in each other. Give a folder outside the archive.")
    if key.resolve().is_relative_to(out):
        raise ConfigError(
            f"--key '{key}' lies in --out: whoever gets a copy of the pictures would get the key to the patients with "
            "it. Put it elsewhere."
        )


def _write_details(path: Path, lines: list[tuple[str, str]] | None) -> None:
    """Those of an earlier call are about that call, so they go."""
    if lines is None:
        path.unlink(missing_ok=True)
        return
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("file", "reason"), *lines])
    write_atomically(path, text.getvalue().encode("utf-8", errors="surrogateescape"), mode=PRIVATE_FILE)
