"""Tables that users write: CSV, Parquet or JSON, read as text and checked column by column."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedmedpeft.components import suggest
from fedmedpeft.data.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

UNREADABLE = "A table of the site's data is missing or unreadable."
LACKING = "A table of the site's data lacks a column or has empty cells in it."


def read_table(path: Path, kind: str) -> pd.DataFrame:
    """All columns as stripped text; empty cells and nulls as ''.

    Args:
        kind: what to call the file in messages.

    Raises:
        DataError: it is missing, or not a CSV, Parquet or JSON table.
    """
    import pandas as pd  # Half a second that the other sources need not pay.

    if not path.is_file():
        raise DataError(f"{kind} '{path}' does not exist or is not a file. Check path=.", public=UNREADABLE)
    if path.suffix.lower() == ".json":
        frame = pd.DataFrame(read_records(path, kind)).fillna("")
    else:
        try:
            if path.suffix.lower() in (".parquet", ".pq"):
                frame = pd.read_parquet(path)
                frame = frame.astype(object).where(frame.notna(), "")
            else:
                frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except (ValueError, OSError, ImportError) as error:
            raise DataError(
                f"{kind} '{path}' is not a readable UTF-8 CSV or Parquet file ({error}).", public=UNREADABLE
            ) from error
    frame.columns = [str(column).strip() for column in frame.columns]
    return frame.map(lambda cell: str(cell).strip())


def read_records(path: Path, kind: str) -> list[dict[str, str]]:
    """A JSON list of objects, their values as stripped text: numbers as written, null as ''.

    Raises:
        DataError: it is missing, or not a JSON list of objects.
    """
    try:
        records = json.loads(path.read_bytes(), parse_int=str, parse_float=str)
    except OSError as error:
        raise DataError(f"{kind} '{path}' cannot be read ({error}). Check path=.", public=UNREADABLE) from error
    except (ValueError, RecursionError) as error:  # broken JSON, bytes that are no UTF-8, or brackets without end
        raise DataError(f"{kind} '{path}' is not JSON ({error}). Copy it again.", public=UNREADABLE) from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{kind} '{path}' is not a JSON list of objects, one for each row.", public=UNREADABLE)
    return [{str(k).strip(): "" if v is None else str(v).strip() for k, v in record.items()} for record in records]


def require(frame: pd.DataFrame, columns: Sequence[str], path: Path, kind: str, hint: str = "") -> None:
    """Raises DataError where a column is not there; the message names those that are."""
    for column in columns:
        if column not in frame.columns:
            near, found = suggest(column, frame.columns), ", ".join(frame.columns)
            raise DataError(f"{kind} '{path}' has no column '{column}'.{near} It has: {found}.{hint}", public=LACKING)


def refuse_empty(frame: pd.DataFrame, path: Path, kind: str) -> None:
    """Raises DataError where a column has empty cells; the message counts them and names the first."""
    for column in frame.columns:
        empty = (frame[column] == "").to_numpy()
        if empty.any():
            raise DataError(
                f"Column '{column}' of {kind.lower()} '{path}' is empty in {int(empty.sum())} of {len(frame)} rows, "
                f"first in row {int(empty.argmax()) + 1}. Fill it, or leave those rows (or, where it is optional, the "
                "column) out.",
                public=LACKING,
            )


def one_spelling(file: str) -> str:
    """``a/../b.png`` and ``./b.png`` as ``b.png``: an image under two names would count as two, and could lie apart."""
    return posixpath.normpath(file)
