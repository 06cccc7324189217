from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition_file import PartitionRecord, read, render

SITE = {"name": "s", "shift": None, "counts": {"train": [1, 1], "val": [0, 1], "test": [0, 0]}}
SITE |= {"train": [0, 2], "val": [3], "test": []}
FILE = {
    "schema": 1,
    "source": "x",
    "source_hash": "f0",
    "partitioner": "iid",
    "seed": 0,
    "rows": 4,
    "classes": ["a", "b"],
}
FILE |= {"sites": [SITE]}

Edit = Callable[[dict[str, Any]], Any]


def edited(tmp_path: Path, edit: Edit) -> Path:
    fields = json.loads(json.dumps(FILE))
    edit(fields)
    path = tmp_path / "partition.json"
    path.write_text(json.dumps(fields))
    return path


def test_a_sound_file_is_read_and_rendered_one_list_a_line(tmp_path: Path) -> None:
    record = read(edited(tmp_path, lambda fields: None))
    text = render(record)
    assert json.loads(text) == FILE
    assert '      "train": [0, 2],\n' in text
    assert PartitionRecord.model_validate_json(text) == record


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda f: f.update(schema=2), "schema"),
        (lambda f: f.pop("schema"), "schema"),
        (lambda f: f.update(more=1), "more"),
        (lambda f: f.update(rows="4"), "rows"),
        (lambda f: f.update(sites=[]), "sites"),
        (lambda f: f["sites"].append(f["sites"][0]), "site name appears twice"),
        (lambda f: f["sites"][0].update(train=[0, 4]), r"row numbers must be in 0\.\.3"),
        (lambda f: f["sites"][0].update(train=[0, -1]), r"row numbers must be in 0\.\.3"),
        (lambda f: f["sites"][0].update(train=[0, 3]), "row is listed more than once"),
        (lambda f: f["sites"][0].update(train=[0]), "counts of site 's' do not add up"),
        (lambda f: f["sites"][0]["counts"].update(train=[2]), "not 2 numbers"),
        (lambda f: f["sites"][0]["counts"].update(train=[3, -1]), "not 2 numbers from 0"),
        (lambda f: f["sites"][0]["counts"].pop("val"), "do not add up"),
        (lambda f: f["sites"][0].update(shift={"gamma": 0}), "gamma"),
        (lambda f: f["sites"][0].update(shift={"gama": 1.5}), "gama"),
        (lambda f: f["sites"][0].update(shift={"stain": [1.0]}), "nine stain values"),
        (lambda f: f["sites"].append({**SITE, "name": "t", "shift": {"gamma": 1.5}}), "some sites have a shift"),
    ],
)
def test_an_unsound_file_is_refused_with_the_place(tmp_path: Path, edit: Edit, named: str) -> None:
    with pytest.raises(DataError, match=named) as caught:
        read(edited(tmp_path, edit))
    assert "partition.json" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\xff", b"[]", b"null"])
def test_what_is_not_json_of_a_partition_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json"):
        read(tmp_path / "a.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "none.json")
