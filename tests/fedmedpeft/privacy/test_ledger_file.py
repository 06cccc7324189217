"""Ledgers that crashes, disks or people have changed: what is legal is mended and said, anything else is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.chain import Chain, read_chain
from fedmedpeft.privacy.accountant import Spending
from fedmedpeft.privacy.ledger import Ledger, LedgerError
from fedmedpeft.privacy.ledger_lines import Entry, Opened, Spent

_ROUND = Spending(1.0, 0.05, 10)
_DATA = "a1" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of four lines: opened, and three rounds."""
    path = tmp_path / "Basel.ledger.jsonl"
    ledger = _open(path)
    for number in (1, 2, 3):
        ledger.spend("run", number, _ROUND, budget=8.0)
    return path


def _open(path: Path) -> Ledger:
    return Ledger.open(path, data_hash=_DATA, unit="patient", units=500, delta=1e-5)


def _head(path: Path) -> Path:
    return path.with_name(f"{path.name}.head")


def _refused(path: Path, why: str) -> LedgerError:
    """Both ways to use the ledger refuse it, and leave every byte where it was."""
    before = {file: file.read_bytes() for file in (path, _head(path)) if file.is_file()}
    for use in (Ledger.read, _open):
        with pytest.raises(LedgerError, match=why) as caught:
            use(path)
        assert str(path.parent) not in caught.value.public
    assert {file: file.read_bytes() for file in (path, _head(path)) if file.is_file()} == before
    return caught.value


def _chained(entries: list[Entry]) -> list[str]:
    """Lines with hashes that fit, whatever they say."""
    chain, lines = Chain(), []
    for entry in entries:
        chain, line = chain.extended(entry)
        lines.append(line)
    return lines


def _field(name: str, value: object) -> Callable[[list[bytes]], list[bytes]]:
    def edit(lines: list[bytes]) -> list[bytes]:
        fields = json.loads(lines[1]) | {name: value}
        return [lines[0], json.dumps(fields, sort_keys=True, separators=(",", ":")).encode(), *lines[2:]]

    return edit


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_field("steps", 1), "Line 2 was edited: its hash does not fit"),
        (_field("noise_multiplier", 100.0), "Line 2 was edited"),
        (_field("hash", "0" * 64), "Line 2 was edited"),
        (_field("seq", 3), "Line 2 was edited"),
        (_field("previous", "0" * 64), "Line 2 was edited"),
        (lambda lines: [lines[0], lines[1].replace(b":", b": "), *lines[2:]], "Line 2 was edited or damaged"),
        (lambda lines: [lines[0], b"not json", *lines[2:]], "Line 2 was edited or damaged"),
        (lambda lines: [lines[0], b"\x00" * 100, *lines[2:]], "Line 2 was edited or damaged"),
        (lambda lines: [lines[0], b"[" * 100_000, *lines[2:]], "Line 2 was edited or damaged"),
        (lambda lines: [lines[0], b"", *lines[1:]], "Line 2 was edited or damaged"),
        (lambda lines: [lines[0], b'{"seq":2}', *lines[2:]], "Line 2 was edited or damaged"),
        (lambda lines: [lines[0], *lines[2:]], "Line 2 was removed"),
        (lambda lines: lines[1:], "Line 1 was removed"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "Line 2 is out of order"),
        (lambda lines: [lines[0], lines[1], lines[1], *lines[2:]], "Line 3 repeats line 2"),
        (lambda lines: [*lines, lines[3]], "Line 5 repeats line 4"),
        (lambda lines: lines[:3], "cut off: it has 3 lines, and its head file says 4"),
        (lambda lines: lines[:1], "cut off: it has 1 lines"),
        (lambda lines: [], "cut off: it has 0 lines"),
    ],
)
def test_a_ledger_that_was_changed_is_refused_and_says_where(
    path: Path, damage: Callable[[list[bytes]], list[bytes]], why: str
) -> None:
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"".join(line + b"\n" for line in damage(lines)))
    assert "backup" in str(_refused(path, why))


def test_lines_of_another_ledger_do_not_continue_this_one(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "Chur.ledger.jsonl"
    ledger = Ledger.open(other, data_hash="b2" * 32, unit="image", units=50)
    ledger.spend("run", 1, _ROUND, budget=8.0)
    ours, theirs = path.read_bytes().splitlines(), other.read_bytes().splitlines()
    path.write_bytes(b"\n".join([ours[0], theirs[1], *ours[2:], b""]))
    _refused(path, "Line 2 does not continue line 1")


def test_a_ledger_written_anew_does_not_fit_its_head(path: Path) -> None:
    """Hashes are no signature; but the head file must have been written anew as well."""
    entries = list(Ledger.read(path).entries)
    assert isinstance(entries[3], Spent)
    entries[3] = entries[3].model_copy(update={"steps": 1})
    path.write_text("".join(_chained(entries)))
    _refused(path, "head file is another ledger's, or line 4 was replaced")


def test_a_torn_last_line_never_counted(path: Path) -> None:
    whole = path.read_bytes()
    for torn in (b"{", b'{"accounting":"rdp","bud', b"\x00" * 300, whole.splitlines()[-1]):
        path.write_bytes(whole + torn)
        assert "torn" in Ledger.read(path).mended[0]
        assert path.read_bytes() == whole + torn
        ledger = _open(path)
        assert "torn" in ledger.mended[0]
        assert (len(ledger.history), path.read_bytes()) == (3, whole)


def test_a_torn_line_does_not_hide_that_others_are_gone(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])
    _refused(path, "cut off: it has 3 lines")


def test_a_head_file_one_line_behind_is_brought_up_to_date(path: Path) -> None:
    old = _head(path).read_bytes()
    _open(path).spend("run", 4, _ROUND, budget=8.0)
    new = _head(path).read_bytes()
    _head(path).write_bytes(old)
    assert "one line behind" in Ledger.read(path).mended[0]
    ledger = _open(path)
    assert len(ledger.history) == 4
    assert _head(path).read_bytes() == new


def test_a_head_file_further_behind_is_an_old_one(path: Path) -> None:
    old = _head(path).read_bytes()
    for number in (4, 5):
        _open(path).spend("run", number, _ROUND, budget=8.0)
    _head(path).write_bytes(old)
    _refused(path, "head file is an old one: it says 4 lines, and there are 6")


def test_a_head_file_that_is_gone_is_missed(path: Path) -> None:
    _head(path).unlink()
    _refused(path, r"head file 'Basel.ledger.jsonl.head' is gone, and there are 4 lines")


def test_a_ledger_that_is_gone_is_missed(path: Path) -> None:
    path.unlink()
    _refused(path, "file is gone, but its head file is there")
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"x", b"{}\n", b"[]\n", b'{"lines": "x", "hash": 1}\n', b'{"lines": 4'])
def test_a_damaged_head_file_is_refused(path: Path, content: bytes) -> None:
    _head(path).write_bytes(content)
    _refused(path, "head file 'Basel.ledger.jsonl.head' is damaged")


@pytest.mark.parametrize("lines", [-3, 0])
def test_a_head_file_that_counts_nothing_is_refused(path: Path, lines: int) -> None:
    _head(path).write_text(json.dumps({"lines": lines, "hash": "0" * 64}))
    _refused(path, "head file is an old one")


@pytest.mark.parametrize("left", [b"", b"{", b'{"data_hash":"a1a1'])
def test_a_crash_before_the_first_line_leaves_nothing(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "Basel.ledger.jsonl"
    path.write_bytes(left)
    assert _open(path).history == ()
    assert len(Ledger.read(path).entries) == 1


def test_a_crash_between_the_first_line_and_its_head_file_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "Basel.ledger.jsonl"
    _open(path)
    _head(path).unlink()
    _open(path).spend("run", 1, _ROUND, budget=8.0)
    assert len(Ledger.read(path).history) == 1


def test_a_file_that_is_no_ledger_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk")
    with pytest.raises(LedgerError, match="is no privacy ledger"):
        _open(path)
    assert path.read_text() == "remember the milk"


def _opening(**changes: Any) -> Opened:
    values = {"time": "t", "version": "9.0.0", "format": 1, "data_hash": _DATA, "unit": "patient", "units": 9}
    return Opened.model_construct(**(values | {"delta": 0.01, "kind": "opened"} | changes))


def test_a_later_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "Basel.ledger.jsonl"
    path.write_text("".join(_chained([_opening(format=2)])))
    error = _refused(path, r"format 2, of fedmedpeft 9\.0\.0, and fedmedpeft .* reads 1\. Update fedmedpeft")
    assert "later version" in error.public
    assert "backup" not in str(error)


@pytest.mark.parametrize("change", [{"kind": "refunded"}, {"delta": "little"}, {"extra": 1}, {"unit": "hospital"}])
def test_a_line_that_this_version_does_not_know_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "Basel.ledger.jsonl"
    fields = {**_opening().__dict__, **change, "seq": 1, "previous": "0" * 64}

    def text(values: dict[str, Any]) -> str:
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    own = hashlib.sha256((fields["previous"] + text(fields)).encode()).hexdigest()
    path.write_text(text({**fields, "hash": own}) + "\n")
    _refused(path, r"Line 1, of fedmedpeft 9\.0\.0, says what fedmedpeft .* does not understand")


def test_it_opens_once_and_first(path: Path) -> None:
    opening, first, *_ = Ledger.read(path).entries
    for entries in ([first, opening], [opening, first, opening]):
        path.write_text("".join(_chained(entries)))
        _head(path).unlink(missing_ok=True)
        chain = read_chain([line.rstrip("\n").encode() for line in _chained(entries)])
        _head(path).write_text(json.dumps({"lines": len(entries), "hash": chain.last}) + "\n")
        _refused(path, "must open once, with line 1")


def test_a_spending_that_cannot_be_is_refused(path: Path) -> None:
    entries = list(Ledger.read(path).entries)
    entries[1] = entries[1].model_copy(update={"steps": -10})
    chain = read_chain([line.rstrip("\n").encode() for line in _chained(entries)])
    path.write_text("".join(_chained(entries)))
    _head(path).write_text(json.dumps({"lines": 4, "hash": chain.last}) + "\n")
    _refused(path, "cannot be: steps=-10")
