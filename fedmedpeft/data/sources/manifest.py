"""A manifest: a CSV or Parquet file with one row per image file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from pydantic import Field

from fedmedpeft.components import Options, suggest
from fedmedpeft.data.decode import open_image
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import SOURCES, ImageTable, canonical_split, describe, index_labels

if TYPE_CHECKING:
    import pandas as pd

_REQUIRED = ("file", "label")
_OPTIONAL = ("split", "site", "patient")


class ManifestOptions(Options):
    """Options of ``manifest``."""

    path: str = Field(min_length=1, description="CSV or Parquet file with the columns file and label")
    classes: str = Field("", description="keep these labels only, comma-separated; empty: all")
    root: str = Field("", description="folder that the file column starts from; empty: the manifest's own")


@SOURCES.register("manifest", ManifestOptions)
class Manifest:
    """Image files listed in a table: columns ``file``, ``label`` and optionally ``split``, ``site``, ``patient``.

    Other columns are ignored. A file that is missing or damaged is found when its image is asked for, so one bad file
    does not keep a site out; where no file at all exists, the root folder is wrong and that is an error at once.

    Raises:
        DataError: the table cannot be read, lacks a column, has empty cells, or none of its files exists.

    Example: ``manifest(path=/data/labels.csv, classes='eosinophil,monocyte')``
    """

    synthetic = False

    def __init__(self, options: ManifestOptions) -> None:
        self.name = "manifest"
        path = Path(options.path).expanduser().absolute()
        self.root = Path(options.root).expanduser().absolute() if options.root else path.parent
        self.table = _to_table(_keep_classes(_read(path), options.classes, path), path)
        if not any((self.root / key).is_file() for key in self.table.keys):
            raise DataError(
                f"None of the {len(self.table)} files listed in '{path}' exists below '{self.root}' "
                f"(the first is '{self.table.keys[0]}'). Set root= to the folder that the file column starts from."
            )
        self.description = describe(self.table, f"the manifest {path.name}")

    def image(self, row: int) -> Image.Image:
        return open_image(self.root / self.table.keys[row])


def _read(path: Path) -> pd.DataFrame:
    """All columns as stripped text; empty cells and nulls as ''."""
    import pandas as pd  # Half a second that the other sources need not pay.

    if not path.is_file():
        raise DataError(f"Manifest '{path}' does not exist or is not a file. Check path=.")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = pd.read_parquet(path)
            frame = frame.astype(object).where(frame.notna(), "")
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError, ImportError) as error:
        raise DataError(f"Manifest '{path}' is not a readable UTF-8 CSV or Parquet file ({error}).") from error
    frame.columns = [str(column).strip() for column in frame.columns]
    for column in _REQUIRED:
        if column not in frame.columns:
            near, found = suggest(column, frame.columns), ", ".join(frame.columns)
            raise DataError(f"Manifest '{path}' has no column '{column}'.{near} It has: {found}.")
    known = [column for column in (*_REQUIRED, *_OPTIONAL) if column in frame.columns]
    return frame[known].map(lambda cell: str(cell).strip())


def _keep_classes(frame: pd.DataFrame, wanted: str, path: Path) -> pd.DataFrame:
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if not names:
        return frame
    found = sorted(set(frame["label"]))
    for name in names:
        if name not in found:
            near, known = suggest(name, found), ", ".join(found)
            raise DataError(f"Manifest '{path}' has no label '{name}'.{near} It has: {known}.")
    return frame[frame["label"].isin(names)]


def _to_table(frame: pd.DataFrame, path: Path) -> ImageTable:
    for column in frame.columns:
        empty = int((frame[column] == "").sum())
        if empty:
            raise DataError(
                f"Column '{column}' of manifest '{path}' is empty in {empty} of {len(frame)} rows. "
                "Fill it, or leave those rows (or, where it is optional, the column) out."
            )
    labels, classes = index_labels(frame["label"].tolist())
    columns = {name: tuple(frame[name]) if name in frame.columns else None for name in _OPTIONAL}
    splits = columns["split"]
    return ImageTable(
        keys=tuple(frame["file"]),
        labels=labels,
        classes=classes,
        splits=tuple(canonical_split(name) for name in splits) if splits is not None else None,
        sites=columns["site"],
        patients=columns["patient"],
    )
