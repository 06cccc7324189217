from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from fedmedpeft.data.decode import MISSING
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import Source, build_source

ROWS = {
    "file": ["img/1.png", "img/2.png", "img/3.png"],
    "label": ["nevus", "melanoma", "NA"],
    "split": ["train", "validation", "Test"],
    "site": ["007", "bern", "bern"],
    "patient": ["1", "1", "2"],
}


@pytest.fixture
def images(write_image: Callable[..., Path]) -> None:
    for number in (1, 2, 3):
        write_image(f"img/{number}.png", colour=(number, 0, 0))


def manifest(tmp_path: Path, rows: dict[str, list[str]], options: str = "", name: str = "labels.csv") -> Source:
    pd.DataFrame(rows).to_csv(tmp_path / name, index=False)
    return build_source(f"manifest(path='{tmp_path / name}'{options})")


@pytest.mark.usefixtures("images")
def test_every_column_is_read_as_text_and_unknown_columns_are_ignored(tmp_path: Path) -> None:
    source = manifest(tmp_path, ROWS | {"licence": ["", "", "x"]})
    table = source.table
    assert table.keys == ("img/1.png", "img/2.png", "img/3.png")
    assert table.classes == ("NA", "melanoma", "nevus")
    assert table.labels.tolist() == [2, 1, 0]
    assert table.splits == ("train", "val", "test")
    assert table.sites == ("007", "bern", "bern")
    assert table.patients == ("1", "1", "2")
    assert source.image(1).getpixel((0, 0)) == (2, 0, 0)
    assert str(tmp_path) not in source.name + source.description


@pytest.mark.usefixtures("images")
def test_optional_columns_may_be_absent(tmp_path: Path) -> None:
    table = manifest(tmp_path, {"file": ROWS["file"], "label": ROWS["label"]}).table
    assert (table.splits, table.sites, table.patients) == (None, None, None)


@pytest.mark.usefixtures("images")
def test_parquet_gives_the_same_table_as_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS).assign(patient=[1, 1, 2])
    frame.to_parquet(tmp_path / "labels.parquet")
    table = build_source(f"manifest(path='{tmp_path / 'labels.parquet'}')").table
    assert table.content_hash() == manifest(tmp_path, ROWS).table.content_hash()


@pytest.mark.usefixtures("images")
def test_a_subset_of_classes_keeps_only_their_rows(tmp_path: Path) -> None:
    table = manifest(tmp_path, ROWS, ", classes='nevus, NA'").table
    assert table.classes == ("NA", "nevus")
    assert table.keys == ("img/1.png", "img/3.png")
    assert table.labels.tolist() == [1, 0]


def test_the_root_may_be_elsewhere(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    write_image("else/img/1.png", colour=(9, 0, 0))
    source = manifest(tmp_path, ROWS, f", root='{tmp_path / 'else'}'")
    assert source.image(0).getpixel((0, 0)) == (9, 0, 0)


@pytest.mark.usefixtures("images")
def test_one_missing_file_is_found_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "img" / "2.png").unlink()
    source = manifest(tmp_path, ROWS)
    assert source.image(0).size == (10, 10)
    with pytest.raises(DataError, match=r"2\.png") as caught:
        source.image(1)
    assert caught.value.public == MISSING


def test_no_file_at_all_is_a_wrong_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"None of the 3 files .* Set root="):
        manifest(tmp_path, ROWS)


@pytest.mark.parametrize(
    ("changes", "options", "named"),
    [
        ({"label": ["nevus", "", "x"]}, "", "'label' .* empty in 1 of 3 rows"),
        ({"patient": ["1", " ", ""]}, "", "'patient' .* empty in 2 of 3 rows"),
        ({"split": ["train", "trian", "test"]}, "", "'trian' is not a split. Did you mean 'train'"),
        ({"file": ["img/1.png"] * 3}, "", "appears 3 times"),
        ({}, ", classes='nevus,melanom'", "no label 'melanom'. Did you mean 'melanoma'"),
    ],
)
@pytest.mark.usefixtures("images")
def test_wrong_cells_are_named(tmp_path: Path, changes: dict[str, list[str]], options: str, named: str) -> None:
    with pytest.raises(DataError, match=named):
        manifest(tmp_path, ROWS | changes, options)


@pytest.mark.usefixtures("images")
def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'label'\. Did you mean 'labels'\? It has: file, labels"):
        manifest(tmp_path, {"file": ROWS["file"], "labels": ROWS["label"]})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b""),
        ("a.csv", b"file,label\n\xff\xfe,x\n"),
        ("a.csv", b'file,label\n"x'),
        ("a.parquet", b"file,label\n"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="not a readable"):
        build_source(f"manifest(path='{tmp_path / name}')")


def test_a_table_without_rows_or_no_table_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        manifest(tmp_path, {"file": [], "label": []})
    with pytest.raises(DataError, match="does not exist"):
        build_source(f"manifest(path='{tmp_path / 'none.csv'}')")


@pytest.mark.usefixtures("images")
def test_a_byte_order_mark_from_a_spreadsheet_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufefffile,label\nimg/1.png, x \n".encode())
    assert build_source(f"manifest(path='{tmp_path / 'a.csv'}')").table.classes == ("x",)


@pytest.mark.usefixtures("images")
def test_sentences_come_with_labels_and_an_image_may_have_several(tmp_path: Path) -> None:
    rows = {"file": ["img/1.png", "img/1.png", "img/2.png"], "text": ["a", "b", "c"], "method": ["x", "y", "x"]}
    source = manifest(tmp_path, rows, ", label=method")
    assert source.table.keys == ("img/1.png#0", "img/1.png#1", "img/2.png#0")
    assert source.table.images == ("img/1.png", "img/1.png", "img/2.png")
    assert source.table.texts == ("a", "b", "c")
    assert source.table.classes == ("x", "y")
    assert source.table.answers is None
    assert source.image(1).getpixel((0, 0)) == (1, 0, 0)
    with pytest.raises(DataError, match="no column 'metod'. Did you mean 'method'"):
        manifest(tmp_path, rows, ", label=metod")


@pytest.mark.usefixtures("images")
def test_texts_without_labels_are_captions(tmp_path: Path) -> None:
    rows = {"file": ROWS["file"], "text": ["a", "b", "c"], "patient": ["1", "1", "2"]}
    table = manifest(tmp_path, rows).table
    assert table.classes == ("caption",)
    assert table.labels.tolist() == [0, 0, 0]
    assert (table.keys, table.images) == (tuple(ROWS["file"]), None)
    with pytest.raises(DataError, match="'text' .* empty in 1 of 3"):
        manifest(tmp_path, rows | {"text": ["a", "", "c"]})
    with pytest.raises(DataError, match="captions and no labels"):
        manifest(tmp_path, rows, ", classes=caption")


@pytest.mark.usefixtures("images")
def test_without_labels_and_texts_both_ways_out_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'label'.* A table of captions has a column 'text'"):
        manifest(tmp_path, {"file": ROWS["file"]})
