from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.sealed_file import DamagedFile, read_sealed, write_sealed

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(content=_JSON)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    file = tmp_path_factory.getbasetemp() / "sealed.json"
    write_sealed(file, content)
    assert read_sealed(file) == content


def test_numbers_that_json_does_not_know(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file", [math.nan, math.inf, -math.inf, 0.1 + 0.2, 5e-324])
    nan, *others = read_sealed(tmp_path / "file")
    assert math.isnan(nan)
    assert others == [math.inf, -math.inf, 0.1 + 0.2, 5e-324]


def test_no_changed_byte_goes_unnoticed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_sealed(file, {"clip": 0.5, "rows": [{"a": "ä", "b": None}], "paid": {"site-0": 3}})
    whole = file.read_bytes()
    for index in range(len(whole)):
        for change in (1, 0x20, 0x80):
            file.write_bytes(whole[:index] + bytes([whole[index] ^ change]) + whole[index + 1 :])
            with pytest.raises(DamagedFile):
                read_sealed(file)
        file.write_bytes(whole[:index])
        with pytest.raises(DamagedFile):
            read_sealed(file)


@pytest.mark.parametrize("text", ["", "[]", "null", '{"content": 1}', '{"content": 1, "sha256": "0"}', "[" * 5000])
def test_what_is_no_sealed_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(DamagedFile):
        read_sealed(tmp_path / "file")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="not there"):
        read_sealed(tmp_path / "file")
