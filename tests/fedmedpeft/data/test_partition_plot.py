from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition import make_partition
from fedmedpeft.data.partition_plot import plot_partition


@pytest.fixture
def source(plain_source: Callable[..., Any]) -> Any:
    return plain_source(60, 3)


@pytest.fixture
def manifest(source: Any) -> Any:
    return make_partition(
        source, "dirichlet", sites=4, seed=0, val_fraction=0.2, test_fraction=0.2, min_train_per_site=1
    )


def test_the_picture_is_a_png_with_a_colour_for_every_class(tmp_path: Path, manifest: Any) -> None:
    plot_partition(manifest, tmp_path / "new" / "all.png")
    with Image.open(tmp_path / "new" / "all.png") as picture:
        assert picture.format == "PNG"
        colours = {tuple(pixel) for pixel in np.asarray(picture.convert("RGB")).reshape(-1, 3)}
    assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= colours


def test_splits_are_drawn_apart_and_the_same_bytes_come_twice(tmp_path: Path, manifest: Any) -> None:
    pictures = {}
    for name, split in (("all", None), ("test", "test"), ("again", "test")):
        plot_partition(manifest, tmp_path / f"{name}.png", split=split)
        pictures[name] = (tmp_path / f"{name}.png").read_bytes()
    assert pictures["test"] == pictures["again"]
    assert pictures["all"] != pictures["test"]


def test_an_unknown_split_is_refused(tmp_path: Path, manifest: Any) -> None:
    with pytest.raises(DataError, match="no split 'tests'"):
        plot_partition(manifest, tmp_path / "a.png", split="tests")
    assert not (tmp_path / "a.png").exists()
