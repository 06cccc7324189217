"""Tables of text files, row by row, with errors that name file, row and what was expected."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fedmedpeft.components import suggest
from fedmedpeft.knowledge.concept import refuse

Row = Mapping[str, str]


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        DataError: it is missing, no file or not UTF-8.
    """
    if not path.is_file():
        raise refuse(f"'{path}' does not exist or is not a file. Check path=.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(f"'{path}' is not UTF-8 (byte {error.start}). Convert it: iconv -f LATIN1 -t UTF-8.") from None
    except OSError as error:
        raise refuse(f"'{path}' cannot be read ({error.strerror}).") from error


def read_table(path: Path, required: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Row numbers (the header is 1) and rows, cells stripped; a ``.csv`` by commas and quotes, else by tabs.

    Raises:
        DataError: the file cannot be read, a column is missing or twice there, or a row has too few or many fields.
    """
    # Not splitlines(): definitions may hold line separators of Unicode, and quoted cells line breaks of their own.
    lines = io.StringIO(read_text(path))
    comma = path.suffix.lower() == ".csv"
    reader = csv.reader(lines, strict=True) if comma else (line.rstrip("\n").split("\t") for line in lines)
    try:
        columns = [name.strip() for name in next(iter(reader), [])]
        _check_columns(path, columns, required)
        for number, cells in enumerate(reader, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise refuse(
                    f"Row {number} of '{path}' has {len(cells)} fields where its header has {len(columns)} "
                    f"({', '.join(columns)}). A field with a tab or a comma of its own must be quoted (CSV) or mended."
                )
            yield number, {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    except csv.Error as error:
        raise refuse(f"'{path}' is not a CSV file ({error}).") from error


def several(cell: str) -> tuple[str, ...]:
    """The parts of a cell that are separated by ``|``."""
    return tuple(part.strip() for part in cell.split("|") if part.strip())


def filled(path: Path, number: int, row: Row, column: str) -> str:
    """A cell that must not be empty.

    Raises:
        DataError: it is.
    """
    if not row[column]:
        raise refuse(f"Row {number} of '{path}' has no {column}. Every row needs one.")
    return row[column]


def _check_columns(path: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    for name in required:
        if columns.count(name) != 1:
            problem = "has no column" if name not in columns else "has more than one column"
            found = ", ".join(columns) or "none"
            raise refuse(f"'{path}' {problem} '{name}'.{suggest(name, columns)} It has: {found}.")
