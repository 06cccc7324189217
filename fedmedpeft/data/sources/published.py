"""Question sets as published: a folder with one JSON file per split, and a folder of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedmedpeft.data.errors import DataError
from fedmedpeft.data.sources.table_file import UNREADABLE, read_table, refuse_empty, require

if TYPE_CHECKING:
    import pandas as pd

_KIND = "Question file"


def published_folder(path: str, kind: str) -> Path:
    """The folder that ``path`` names. Raises DataError where there is none."""
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"{kind} folder '{folder}' does not exist or is not a folder. Check path=.", public=UNREADABLE)
    return folder


def image_folder(folder: Path, names: Sequence[str]) -> Path:
    """The first of ``names`` that is a folder below ``folder``, else ``folder`` itself."""
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def read_splits(folder: Path, files: Mapping[str, Sequence[str]], columns: Mapping[str, str]) -> pd.DataFrame:
    """All splits' questions in one frame with the columns of :class:`QuestionSource`; ``key`` is ``<split>/<qid>``.

    Args:
        files: by split the names that its file may have.
        columns: ours -> the set's own; ``key`` is its id of a question.

    Raises:
        DataError: a file is missing or unreadable, or lacks a field somewhere.
    """
    import pandas as pd

    frames = []
    for split, names in files.items():
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            wanted = " or ".join(names)
            raise DataError(f"'{folder}' has no {wanted} (the {split} questions). Check path=.", public=UNREADABLE)
        frame = read_columns(path, columns)
        frames.append(frame.assign(split=split, key=split + "/" + frame["key"]))
    return pd.concat(frames, ignore_index=True)


def read_columns(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Some columns of one question file under our names; several of ours may be one of theirs.

    Raises:
        DataError: the file is unreadable, or lacks a field somewhere.
    """
    frame = read_table(path, _KIND)
    require(frame, list(columns.values()), path, _KIND)
    refuse_empty(frame[list(dict.fromkeys(columns.values()))], path, _KIND)
    return frame[list(columns.values())].set_axis(list(columns), axis="columns")
