from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.data.errors import DataError
from fedmedpeft.data.sources.table_file import UNREADABLE, one_spelling, read_records, read_table


def test_json_values_become_text_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{" qid": 7, "answer": 2.50, "x": null, "y": " z "}]')
    assert read_records(tmp_path / "a.json", "File") == [{"qid": "7", "answer": "2.50", "x": "", "y": "z"}]


def test_a_field_that_only_some_objects_have_is_empty_in_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"a": 1}, {"a": 2, "b": "x"}]')
    assert read_table(tmp_path / "a.json", "File").to_dict("list") == {"a": ["1", "2"], "b": ["", "x"]}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\xff", b"[" * 100_000, b"3", b'{"a": 1}', b"[[1]]"])
def test_what_is_no_list_of_objects_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json") as caught:
        read_table(tmp_path / "a.json", "File")
    assert caught.value.public == UNREADABLE


def test_a_missing_file_is_named_as_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Question file .* does not exist"):
        read_table(tmp_path / "none.csv", "Question file")


def test_a_file_has_one_spelling() -> None:
    assert {one_spelling(name) for name in ("a/b.png", "./a/b.png", "a/../a/b.png", "a//b.png")} == {"a/b.png"}
