from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedpeft.data.errors import DataError
from fedmedpeft.knowledge.text_file import read_texts


def test_three_kinds_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"question": "one "}, {"question": ""}, {"question": "two"}]))
    (tmp_path / "a.csv").write_text('id,caption\n1,"one"\n2,two\n')
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert read_texts(tmp_path / "a.json") == ["one", "two"]
    assert read_texts(tmp_path / "a.csv", "caption") == ["one", "two"]
    assert read_texts(tmp_path / "a.txt") == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[", "is not JSON"),
        ("a.json", '{"question": "secret"}', "must hold a list"),
        ("a.json", '[{"question": "secret"}, {"queston": "secret"}]', "Item 2 .* Did you mean 'queston'"),
        ("a.json", '[{"question": 3}]', "Item 1"),
        ("a.json", "[3]", "no fields"),
        ("a.csv", "caption\nsecret\n", "has no column 'question'"),
        ("a.txt", " \n", "holds no text"),
    ],
)
def test_what_cannot_be_read_is_named_without_a_text(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_texts(tmp_path / name)
    assert "secret" not in str(caught.value)
    assert str(tmp_path) not in caught.value.public
