"""The folder that an import writes: pictures, and the manifest of them that ``manifest(path=...)`` reads."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import StringIO
from itertools import zip_longest
from pathlib import Path

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError
from fedmedpeft.data.dicom.frames import Picture
from fedmedpeft.data.errors import DataError

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
_COLUMNS = ("file", "label", "patient", "study", "content")
_IMAGES = "images"
_OURS = re.compile(r"[0-9a-f]{32}(-\d{4,})?\.png|\..*\.part")


@dataclass(frozen=True)
class Imported:
    """The rows of one DICOM object: its pictures, and what holds for all of them. All names are keyed."""

    files: tuple[str, ...]
    label: str
    patient: str
    study: str
    content: str


class ImageFolder:
    """``images/`` and ``manifest.csv``; what is in memory is in the manifest after ``save``.

    Raises:
        ConfigError: there is a manifest that no import wrote.
        DataError: (all that write) the disk is full, or may not be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = path / "manifest.csv"
        self.images = path / _IMAGES
        self.rows: dict[str, Imported] = {}
        for folder in (path, self.images):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        if self.manifest.exists():
            self._read()

    def complete(self, image: str, content: str) -> bool:
        """Whether this very object is here, with all its pictures."""
        known = self.rows.get(image)
        return known is not None and known.content == content and all((self.path / f).is_file() for f in known.files)

    def put(self, image: str, pictures: Iterable[Picture], many: bool, about: Imported) -> None:
        """Write the pictures of one object, and take it up; where one of them fails, none of them stays.

        Args:
            many: the object has several frames, so names say which.
            about: all but the files.
        """
        self.forget(image)
        files: list[str] = []
        try:
            for picture in pictures:
                files.append(f"{_IMAGES}/{image}{f'-{picture.frame:04d}' if many else ''}.png")
                self._write(self.path / files[-1], picture.png)
        except BaseException:
            self._remove(files)
            raise
        self.rows[image] = replace(about, files=tuple(files))

    def same_pictures(self, there: Imported, pictures: Iterable[Picture]) -> bool:
        """Whether ``pictures`` are, byte for byte, those of one object in the folder."""
        pairs = zip_longest(there.files, pictures)
        return all(file and picture and (self.path / file).read_bytes() == picture.png for file, picture in pairs)

    def relabel(self, image: str, label: str) -> None:
        self.rows[image] = replace(self.rows[image], label=label)

    def forget(self, image: str) -> bool:
        """Take one object out, with its pictures; whether it was here."""
        known = self.rows.pop(image, None)
        self._remove(known.files if known else ())
        return known is not None

    def save(self) -> None:
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for _, row in sorted(self.rows.items()):
            writer.writerows((file, row.label, row.patient, row.study, row.content) for file in row.files)
        self._write(self.manifest, text.getvalue())

    def sweep(self) -> None:
        """Remove pictures that an import wrote and did not live to list."""
        listed = {Path(file).name for row in self.rows.values() for file in row.files}
        for path in self.images.iterdir():
            if path.name not in listed and _OURS.fullmatch(path.name):
                path.unlink()

    def _write(self, path: Path, content: bytes | str) -> None:
        try:
            write_atomically(path, content, mode=PRIVATE_FILE)
        except OSError as error:
            raise DataError(
                f"'{self.path}' cannot be written ({error.strerror}). Make room or give write permission, then call "
                "again: what is there is kept."
            ) from error

    def _remove(self, files: Iterable[str]) -> None:
        for file in files:
            (self.path / file).unlink(missing_ok=True)

    def _read(self) -> None:
        with self.manifest.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise ConfigError(
                    f"--out '{self.path}' holds a manifest.csv that no import wrote (its columns are not "
                    f"{', '.join(_COLUMNS)}). Give a folder of its own."
                )
            for row in reader:
                self._add(row["file"], Imported((), row["label"], row["patient"], row["study"], row["content"]))

    def _add(self, file: str, about: Imported) -> None:
        name = Path(file).name
        if file != f"{_IMAGES}/{name}" or not _OURS.fullmatch(name):
            raise ConfigError(f"--out '{self.path}': manifest.csv lists a file that no import wrote. Restore it.")
        image = name.partition(".")[0].partition("-")[0]
        known = self.rows.get(image, about)
        self.rows[image] = replace(known, files=(*known.files, file))
