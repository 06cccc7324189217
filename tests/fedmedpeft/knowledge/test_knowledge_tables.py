from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.data.errors import DataError
from fedmedpeft.knowledge.tables import filled, read_table, several


def rows(path: Path, content: str | bytes, *required: str) -> list[tuple[int, dict[str, str]]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(number, dict(row)) for number, row in read_table(path, required)]


def test_tabs_and_commas(tmp_path: Path) -> None:
    tabs = rows(tmp_path / "a.tsv", '\ufeffid\tname\n1\t a "b" \n\n2\tc\r\n', "id")
    assert tabs == [(2, {"id": "1", "name": 'a "b"'}), (4, {"id": "2", "name": "c"})]
    assert rows(tmp_path / "a.csv", 'id,name\n1,"a, b"\n', "id") == [(2, {"id": "1", "name": "a, b"})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "id\tnam\n", "has no column 'name'. Did you mean 'nam'"),
        ("a.tsv", "name\tname\n", "more than one column 'name'"),
        ("a.tsv", "", "has no column 'name'. It has: none"),
        ("a.tsv", "id\tname\n1\n", "Row 2 of .* has 1 fields where its header has 2"),
        ("a.tsv", "id\tname\n1\ta\tb\n", "Row 2 of .* has 3 fields"),
        ("a.csv", 'id,name\n1,"a', "is not a CSV file"),
        ("a.tsv", b"id\tname\n1\t\xff\n", "is not UTF-8"),
    ],
)
def test_a_broken_table_is_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(tmp_path / name, content, "name")


def test_lines_within_a_cell(tmp_path: Path) -> None:
    """Definitions hold them: what begins a line of its own must not grow together with the word before it."""
    quoted = rows(tmp_path / "a.csv", 'id,name\r\n1,"organ of\r\nbreathing"\r\n2,b\r\n', "id")
    assert quoted == [(2, {"id": "1", "name": "organ of\nbreathing"}), (3, {"id": "2", "name": "b"})]
    separated = rows(tmp_path / "a.tsv", "id\tname\n1\torgan of\u2028breathing\n", "id")
    assert separated == [(2, {"id": "1", "name": "organ of\u2028breathing"})]


def test_a_missing_file_and_an_empty_cell(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist or is not a file"):
        list(read_table(tmp_path, ("id",)))
    with pytest.raises(DataError, match="Row 7 of .* has no id"):
        filled(tmp_path, 7, {"id": ""}, "id")


def test_parts_of_a_cell() -> None:
    assert several(" a | |b|") == ("a", "b")
