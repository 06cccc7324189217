"""Chained files that were torn, cut or edited at any byte: mended as a crash can have left them, else refused."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from fedmedpeft.chain import Chain, Line
from fedmedpeft.chain_book import Book, ChainedFileError
from fedmedpeft.chained_file import ChainedFile, said_by_head


class _Note(Line):
    format: int = 1
    kind: Literal["note"] = "note"
    words: str


_BOOK = Book[_Note](
    name="travel diary",
    entries=TypeAdapter(_Note),
    opening=b'{"format":',
    format=1,
    error=ChainedFileError,
    torn="nobody went.",
    unwritten="nobody goes.",
    restore="from memory.",
)


def _note(words: object) -> _Note:
    return _Note(time="t", version="1", words=str(words))


def _file(directory: Path, lines: int) -> ChainedFile[_Note]:
    file = ChainedFile(directory / "diary.jsonl", _BOOK)
    _append(file, *range(lines))
    return file


def _append(file: ChainedFile[_Note], *words: object) -> None:
    """As owners of such files do: on top of what is there, mended."""
    with file.writing():
        found = file.read()
        file.mend(found)
        chain = found.chain
        for each in words:
            chain = file.append(chain, _note(each))


def _words(file: ChainedFile[_Note]) -> list[str]:
    return [entry.words for entry in file.read().entries]


def _written(lines: int) -> tuple[bytes, bytes]:
    """The file and its head file after so many lines."""
    with tempfile.TemporaryDirectory() as directory:
        file = _file(Path(directory), lines)
        return file.path.read_bytes(), file.head.read_bytes()


_FOUR, _HEAD_OF_FOUR = _written(4)
_THREE, _HEAD_OF_THREE = _written(3)
_ONE, _ = _written(1)


@pytest.fixture
def file(tmp_path: Path) -> ChainedFile[_Note]:
    return ChainedFile(tmp_path / "diary.jsonl", _BOOK)


def _lay(file: ChainedFile[_Note], content: bytes | None, head: bytes | None) -> None:
    for path, text in ((file.path, content), (file.head, head)):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_bytes(text)


@pytest.fixture
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of files in a second, on any disk."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.mark.usefixtures("unflushed")
def test_a_crash_that_tore_the_last_line_at_any_byte_loses_that_line_only(file: ChainedFile[_Note]) -> None:
    for length in range(len(_THREE), len(_FOUR)):
        _lay(file, _FOUR[:length], _HEAD_OF_THREE)
        _append(file, "after")
        assert _words(file) == ["0", "1", "2", "after"]
        assert file.read().mendings == ()


@pytest.mark.usefixtures("unflushed")
def test_a_crash_that_tore_the_first_line_at_any_byte_leaves_nothing(file: ChainedFile[_Note]) -> None:
    for length in range(len(_ONE)):
        _lay(file, _ONE[:length], None)
        _append(file, "after")
        assert _words(file) == ["after"]


def test_a_file_that_was_cut_at_any_byte_is_refused(file: ChainedFile[_Note]) -> None:
    """No crash leaves less than the head file counts."""
    for length in range(len(_FOUR)):
        _lay(file, _FOUR[:length], _HEAD_OF_FOUR)
        with pytest.raises(ChainedFileError, match=f"cut off: it has {_FOUR[:length].count(10)} lines|is no travel"):
            file.read()
    for length in range(len(_THREE)):
        _lay(file, _FOUR[:length], _HEAD_OF_THREE)
        with pytest.raises(ChainedFileError, match="cut off|is no travel"):
            file.read()


@pytest.mark.parametrize("head", [None, _HEAD_OF_THREE])
def test_a_line_whose_head_file_was_not_written_counts(file: ChainedFile[_Note], head: bytes | None) -> None:
    content, words = (_ONE, ["0"]) if head is None else (_FOUR, ["0", "1", "2", "3"])
    _lay(file, content, head)
    assert "one line behind" in file.read().mendings[0]
    assert file.path.read_bytes() == content
    _append(file)
    assert (_words(file), file.read().mendings) == (words, ())


@settings(deadline=None)  # files, on whatever disk
@given(position=st.integers(0, len(_FOUR) - 1), value=st.integers(0, 255))
def test_any_byte_that_was_changed_is_refused(position: int, value: int) -> None:
    if _FOUR[position] == value:
        return
    with tempfile.TemporaryDirectory() as directory:
        file = ChainedFile(Path(directory) / "diary.jsonl", _BOOK)
        _lay(file, _FOUR[:position] + bytes([value]) + _FOUR[position + 1 :], _HEAD_OF_FOUR)
        with pytest.raises(ChainedFileError, match="does not verify"):
            file.read()


@settings(deadline=None)  # files, on whatever disk
@given(position=st.integers(0, len(_HEAD_OF_FOUR) - 1), value=st.integers(0, 255))
def test_any_byte_that_was_changed_in_the_head_file_is_refused(position: int, value: int) -> None:
    if _HEAD_OF_FOUR[position] == value:
        return
    with tempfile.TemporaryDirectory() as directory:
        file = ChainedFile(Path(directory) / "diary.jsonl", _BOOK)
        _lay(file, _FOUR, _HEAD_OF_FOUR[:position] + bytes([value]) + _HEAD_OF_FOUR[position + 1 :])
        with pytest.raises(ChainedFileError, match="ead file"):
            file.read()


@pytest.mark.parametrize("end", [b" ", b"\t\n", b""])
def test_a_head_file_that_says_the_same_in_another_way_is_damaged(file: ChainedFile[_Note], end: bytes) -> None:
    _lay(file, _FOUR, _HEAD_OF_FOUR.rstrip(b"\n") + end)
    with pytest.raises(ChainedFileError, match=r"head file 'diary\.jsonl\.head' is damaged"):
        file.read()


@settings(deadline=None)  # files, on whatever disk
@given(st.binary(max_size=30), st.sampled_from([_FOUR, _HEAD_OF_FOUR]))
def test_nothing_at_all_makes_it_fall_over(content: bytes, whole: bytes) -> None:
    """Whatever lies there: lines that were written, or the error of the book."""
    with tempfile.TemporaryDirectory() as directory:
        file = ChainedFile(Path(directory) / "diary.jsonl", _BOOK)
        for left in ((content, None), (content, _HEAD_OF_FOUR), (_FOUR, content), (whole + content, _HEAD_OF_FOUR)):
            _lay(file, *left)
            with contextlib.suppress(ChainedFileError):
                assert _words(file) in ([], ["0", "1", "2", "3"])


def _texts(file: ChainedFile[_Note]) -> Iterator[str]:
    """How each kind of error about it reads."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    for content, head in (
        (_FOUR[5:], _HEAD_OF_FOUR),
        (b"milk", None),
        (_FOUR.replace(b'"format":1', b'"format":2'), None),
    ):
        _lay(file, content, head)
        with pytest.raises(ChainedFileError) as caught:
            file.read()
        yield str(caught.value)
    with pytest.raises(ChainedFileError) as caught, file.writing():
        raise OSError(28, "No space left on device")
    yield str(caught.value)


def test_errors_speak_of_the_owners_file(file: ChainedFile[_Note]) -> None:
    broken, other, later, full = _texts(file)
    assert broken.startswith(f"The travel diary '{file.path}' does not verify. Line 1 was edited")
    assert broken.endswith("Restore it and 'diary.jsonl.head' together from memory.")
    assert other == f"'{file.path}' is no travel diary; it is left as it is. Name another file."
    assert "It has format 2, of fedmedpeft 1, and" in later
    assert "(No space left on device); nobody goes." in full


def test_an_append_that_fails_halfway_takes_its_bytes_back(
    file: ChainedFile[_Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    _append(file, "0")
    before = file.path.read_bytes(), file.head.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fedmedpeft.chained_file.os.fsync", full)
        with pytest.raises(ChainedFileError, match="cannot be written"):
            _append(file, "1")
    assert (file.path.read_bytes(), file.head.read_bytes()) == before


def test_whether_somebody_else_wrote_is_seen_without_reading_the_lines(file: ChainedFile[_Note]) -> None:
    assert not file.unchanged(Chain())
    _append(file, "0")
    chain = file.read().chain
    assert file.unchanged(chain)
    _append(file, "1")
    assert not file.unchanged(chain)


def test_what_the_head_file_says_for_a_person_to_write_down(file: ChainedFile[_Note]) -> None:
    assert said_by_head(file.path) is None
    for words in ("0", "1"):
        _append(file, words)
    assert said_by_head(file.path) == (2, file.read().hashes[-1])
    file.head.write_text("[" * 100_000)
    assert said_by_head(file.path) is None
