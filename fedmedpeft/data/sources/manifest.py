"""A manifest: a CSV, Parquet or JSON file with one row per image file, or per text about one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from pydantic import Field

from fedmedpeft.components import Options, suggest
from fedmedpeft.data.decode import open_image
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import SOURCES, ImageTable, canonical_split, describe, index_labels
from fedmedpeft.data.sources.table_file import one_spelling, read_table, refuse_empty, require

if TYPE_CHECKING:
    import pandas as pd

CAPTION = "caption"
"""The one class of a table of captions."""
_KIND = "Manifest"
_LABEL, _TEXT = "label", "text"
_OPTIONAL = ("split", "site", "patient")


class ManifestOptions(Options):
    """Options of ``manifest``."""

    path: str = Field(min_length=1, description="CSV, Parquet or JSON file with the columns file and label")
    label: str = Field(_LABEL, min_length=1, description="the column that holds the labels")
    classes: str = Field("", description="keep these labels only, comma-separated; empty: all")
    root: str = Field("", description="folder that the file column starts from; empty: the manifest's own")


@SOURCES.register("manifest", ManifestOptions)
class Manifest:
    """Image files in a table: columns ``file``, ``label`` and optionally ``split``, ``site``, ``patient``, ``text``.

    With ``text`` an image may have several rows: a sentence to classify it with, or, where there is no ``label``, a
    caption to find it by (all rows are then of the class ``caption``). Other columns are ignored.

    A file that is missing or damaged is found when its image is asked for, so one bad file does not keep a site out;
    where no file at all exists, the root folder is wrong and that is an error at once.

    Raises:
        DataError: the table cannot be read, lacks a column, has empty cells, or none of its files exists.

    Example: ``manifest(path=/data/labels.csv, classes='eosinophil,monocyte')``
    """

    synthetic = False

    def __init__(self, options: ManifestOptions) -> None:
        self.name = "manifest"
        path = Path(options.path).expanduser().absolute()
        self.root = Path(options.root).expanduser().absolute() if options.root else path.parent
        self.table = _to_table(_keep_classes(_read(path, options.label), options.classes, path), path)
        self._files = self.table.images or self.table.keys
        if not any((self.root / file).is_file() for file in dict.fromkeys(self._files)):
            raise DataError(
                f"None of the {len(self.table)} files listed in '{path}' exists below '{self.root}' "
                f"(the first is '{self._files[0]}'). Set root= to the folder that the file column starts from."
            )
        self.description = describe(self.table, f"the manifest {path.name}")

    def image(self, row: int) -> Image.Image:
        return open_image(self.root / self._files[row])


def _read(path: Path, label: str) -> pd.DataFrame:
    """The known columns, ``label`` under that name; a table of captions has none."""
    frame = read_table(path, _KIND)
    captions = label == _LABEL and _LABEL not in frame.columns and _TEXT in frame.columns
    hint = " A table of captions has a column 'text' instead." if label == _LABEL else ""
    require(frame, ("file",) if captions else ("file", label), path, _KIND, hint)
    ours = {name: name for name in ("file", _TEXT, *_OPTIONAL) if name in frame.columns}
    ours |= {} if captions else {_LABEL: label}
    return frame[list(ours.values())].set_axis(list(ours), axis="columns")


def _keep_classes(frame: pd.DataFrame, wanted: str, path: Path) -> pd.DataFrame:
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if not names:
        return frame
    if _LABEL not in frame.columns:
        raise DataError(f"Manifest '{path}' holds captions and no labels. Leave classes= out, or add a label column.")
    found = sorted(set(frame["label"]))
    for name in names:
        if name not in found:
            near, known = suggest(name, found), ", ".join(found)
            raise DataError(f"Manifest '{path}' has no label '{name}'.{near} It has: {known}.")
    return frame[frame["label"].isin(names)]


def _to_table(frame: pd.DataFrame, path: Path) -> ImageTable:
    refuse_empty(frame, path, _KIND)
    labels, classes = index_labels(frame[_LABEL].tolist() if _LABEL in frame.columns else [CAPTION] * len(frame))
    columns = {name: tuple(frame[name]) if name in frame.columns else None for name in (_TEXT, *_OPTIONAL)}
    files, splits, images = frame["file"], columns["split"], None
    shown = files.map(one_spelling)
    if columns[_TEXT] is not None and shown.duplicated().any():
        images = tuple(shown)
        # An image's first text is <file>#0, its second <file>#1, ...
        files = shown + "#" + frame.groupby(shown).cumcount().astype(str)
    return ImageTable(
        keys=tuple(files),
        labels=labels,
        classes=classes,
        splits=tuple(canonical_split(name) for name in splits) if splits is not None else None,
        sites=columns["site"],
        patients=columns["patient"],
        texts=columns[_TEXT],
        images=images,
    )
