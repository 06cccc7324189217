"""Small sources to partition, load and plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmedpeft.data.decode import MISSING
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import ImageTable


class PlainSource:
    """Images of one colour: the row number in the red channel. Rows in ``broken`` cannot be read."""

    synthetic = True
    name = "plain"
    description = "plain images"

    def __init__(self, table: ImageTable, broken: Sequence[int] = ()) -> None:
        self.table = table
        self.broken = set(broken)

    def image(self, row: int) -> Image.Image:
        if row in self.broken:
            raise DataError(f"Image 'patient-7/{row}.png' does not exist.", public=MISSING)
        return Image.new("RGB", (12, 8), (row, 100, 200))


@pytest.fixture
def plain_source() -> Callable[..., PlainSource]:
    """Makes a source of ``rows`` images whose labels go round ``classes`` classes; other columns as given."""

    def make(rows: int = 60, classes: int = 3, broken: Sequence[int] = (), **columns: tuple[str, ...]) -> PlainSource:
        labels = np.arange(rows) % classes
        names = tuple("abcdefgh"[:classes])
        table = ImageTable(tuple(f"k{row}" for row in range(rows)), labels, names, **columns)
        return PlainSource(table, broken)

    return make


@pytest.fixture
def write_image(tmp_path: Path) -> Callable[..., Path]:
    """Writes a plain RGB image below the test's folder."""

    def write(name: str, colour: tuple[int, int, int] = (200, 30, 60), size: tuple[int, int] = (10, 10)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path)
        return path

    return write
