from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import Source, build_source


def folder(path: Path) -> Source:
    return build_source(f"folder(path='{path}')")


def test_classes_are_folders(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    for name in ("lung/2.png", "lung/10.JPG", "heart/1.tiff", ".cache/x.png"):
        write_image(name)
    write_image("heart/.hidden.png")
    (tmp_path / "lung" / "notes.txt").write_text("not an image")
    (tmp_path / "empty").mkdir()
    source = folder(tmp_path)
    assert source.table.keys == ("heart/1.tiff", "lung/10.JPG", "lung/2.png")
    assert source.table.classes == ("heart", "lung")
    assert source.table.labels.tolist() == [0, 1, 1]
    assert source.table.splits is None
    assert source.synthetic is False
    assert source.image(2).getpixel((0, 0)) == (200, 30, 60)


def test_splits_may_come_first_in_their_common_spellings(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    for name in ("Train/a/1.png", "Train/b/1.png", "valid/a/1.png", "test/b/1.png"):
        write_image(name)
    table = folder(tmp_path).table
    assert table.keys == ("Train/a/1.png", "Train/b/1.png", "test/b/1.png", "valid/a/1.png")
    assert table.splits == ("train", "train", "test", "val")
    assert table.labels.tolist() == [0, 1, 1, 0]


def test_a_class_called_test_among_others_is_a_class(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    write_image("test/1.png")
    write_image("other/1.png")
    assert folder(tmp_path).table.classes == ("other", "test")


def test_the_same_files_elsewhere_are_the_same_data(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    for root in ("x", "y"):
        for name in ("a", "b"):
            write_image(f"{root}/{name}/1.png")
    assert folder(tmp_path / "x").table.content_hash() == folder(tmp_path / "y").table.content_hash()


def test_a_folder_that_is_missing_or_has_nothing_to_read(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="does not exist"):
        folder(tmp_path / "none")
    write_image("loose.png")
    with pytest.raises(DataError, match=r"no images in <class>/ or <split>/<class>/"):
        folder(tmp_path)
    with pytest.raises(ConfigError, match="path"):
        build_source("folder")
