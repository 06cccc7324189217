"""Where an image's label comes from: a table, one label for all, or a coded tag."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from pydicom import Dataset

from fedmedpeft.components import ConfigError, suggest
from fedmedpeft.data.dicom import reasons
from fedmedpeft.data.dicom.identity import same_spelling
from fedmedpeft.data.dicom.opened import LABEL_TAGS
from fedmedpeft.data.dicom.reasons import Skipped
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.sources.table_file import one_spelling, read_table, require

KEYS = ("sop-instance-uid", "study-instance-uid", "accession", "patient", "file")
"""What a row of a table of labels may be about, the most exact first but for ``file``."""

_TAGS = {
    "sop-instance-uid": "SOPInstanceUID",
    "study-instance-uid": "StudyInstanceUID",
    "accession": "AccessionNumber",
    "patient": "PatientID",
}
_ALIASES = {
    "sopinstanceuid": "sop-instance-uid",
    "studyinstanceuid": "study-instance-uid",
    "accession": "accession",
    "accessionnumber": "accession",
    "patient": "patient",
    "patientid": "patient",
    "file": "file",
    "filename": "file",
}
_KIND = "Table of labels"
_CODED = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,15}")


class Labels(Protocol):
    """Gives each image its label."""

    def of(self, header: Dataset, file: str) -> str:
        """``file``: its path below the folder that is imported, with slashes. Raises Skipped where it has none."""
        ...

    def unused(self) -> int:
        """How many rows of a table no image asked for."""
        ...


class OneLabel:
    """The same label for all images."""

    def __init__(self, label: str) -> None:
        if not label.strip():
            raise ConfigError("--label is empty. Write the class of all images, such as: --label pneumonia")
        self._label = label.strip()

    def of(self, header: Dataset, file: str) -> str:
        return self._label

    def unused(self) -> int:
        return 0


class TagLabels:
    """The value of a coded tag; anything that does not look like a code is no label."""

    def __init__(self, keyword: str) -> None:
        if keyword not in LABEL_TAGS:
            near, known = suggest(keyword, LABEL_TAGS), ", ".join(LABEL_TAGS)
            raise ConfigError(f"--label-tag '{keyword}' cannot be a label.{near} It may be one of: {known}.")
        self._keyword = keyword

    def of(self, header: Dataset, file: str) -> str:
        value = str(header.get(self._keyword) or "").strip()
        if not _CODED.fullmatch(value):
            raise Skipped(reasons.NO_LABEL)
        return value

    def unused(self) -> int:
        return 0


class LabelTable:
    """A CSV (or Parquet, JSON) table with one column that says which images, and one that says which label.

    Messages name rows and columns and never a cell: cells are patients.

    Raises:
        DataError: it cannot be read, lacks a column, has empty cells, or gives one image two labels.
    """

    def __init__(self, path: Path, by: str = "", column: str = "label") -> None:
        frame = read_table(path, _KIND)
        require(frame, (column,), path, _KIND)
        self._by, key = _key_column([str(name) for name in frame.columns if name != column], by, path)
        self._labels: dict[str, str] = {}
        self._asked: set[str] = set()
        for row, (cell, label) in enumerate(zip(frame[key], frame[column], strict=True), start=2):
            self._add(_spelled(self._by, cell), label, f"row {row} of '{path}' (the header is row 1)")
        if not self._labels:
            raise DataError(f"{_KIND} '{path}' has no rows. Write one for each image, study or patient.")

    def _add(self, name: str, label: str, where: str) -> None:
        if not name or not label:
            raise DataError(f"An empty {'label' if name else self._by} in {where}. Fill it, or leave the row out.")
        if self._labels.setdefault(name, label) != label:
            raise DataError(f"Another label for the same {self._by} as further up in {where}. Keep one of them.")

    def of(self, header: Dataset, file: str) -> str:
        name = _spelled(self._by, file if self._by == "file" else str(header.get(_TAGS[self._by]) or ""))
        if name not in self._labels:
            raise Skipped(reasons.NO_LABEL)
        self._asked.add(name)
        return self._labels[name]

    def unused(self) -> int:
        return len(self._labels) - len(self._asked)


def _key_column(columns: list[str], by: str, path: Path) -> tuple[str, str]:
    """What the rows are about, and the column that says it."""
    if by and by not in KEYS:
        raise ConfigError(f"--label-by '{by}' is not known.{suggest(by, KEYS)} It may be one of: {', '.join(KEYS)}.")
    found = {_ALIASES.get("".join(filter(str.isalnum, name.lower())), ""): name for name in columns}
    known = [key for key in KEYS if key in found and by in ("", key)]
    if not known:
        near = next(filter(None, (suggest(name.lower(), KEYS) for name in columns)), "")
        wanted = f"'{by}'" if by else f"any of {', '.join(KEYS)}"
        raise DataError(f"{_KIND} '{path}' has no column {wanted}.{near} It has: {', '.join(columns)}.")
    if len(known) > 1:
        raise DataError(
            f"{_KIND} '{path}' has several columns that could say which images a row is about: {', '.join(known)}. "
            f"Choose one with --label-by {known[0]}."
        )
    return known[0], found[known[0]]


def _spelled(by: str, cell: str) -> str:
    cell = cell.strip().strip("\0").strip()
    if by == "patient":
        return same_spelling(cell)
    return one_spelling(cell.replace("\\", "/")) if by == "file" and cell else cell
