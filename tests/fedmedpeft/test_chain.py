"""Chained lines: written as ever, and whatever is done to them is found."""

from __future__ import annotations

import json
import re
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.chain import START, Chain, ChainError, Line, read_chain


class _Said(Line):
    kind: Literal["said"] = "said"
    words: str
    number: float | None = None


def _lines(count: int) -> list[bytes]:
    chain, lines = Chain(), []
    for number in range(count):
        chain, line = chain.extended(_Said(time="t", version="1", words=f"Zürich {number}", number=number / 3))
        lines.append(line.rstrip("\n").encode())
    return lines


_LINES = _lines(5)
_TEXT = b"".join(line + b"\n" for line in _LINES)


def _found(text: bytes) -> str:
    """What is wrong with a whole file of lines."""
    assert text.endswith(b"\n")
    with pytest.raises(ChainError) as caught:
        read_chain(text[:-1].split(b"\n"))
    return str(caught.value)


def test_a_line_is_written_as_it_always_was() -> None:
    """The first line of a ledger that fedmedpeft 0.1.0 wrote before ledger and audit log shared this code."""

    class Opened(Line):
        kind: str = "opened"
        format: int = 1
        data_hash: str = "a1" * 32
        unit: str = "patient"
        units: int = 500
        delta: float = 1e-5

    chain, line = Chain().extended(Opened(time="2026-11-22T10:00:00+00:00", version="0.1.0"))
    own = "9a3a3c4629ca3f8b6ca14205d9898b5bd9734e8d67657c3236c8531386421586"
    written = (
        f'{{"data_hash":"{"a1" * 32}","delta":1e-05,"format":1,"hash":"{own}","kind":"opened","previous":"{START}",'
        '"seq":1,"time":"2026-11-22T10:00:00+00:00","unit":"patient","units":500,"version":"0.1.0"}\n'
    )
    assert (line, chain) == (written, Chain(1, own, len(written)))


def test_what_was_said_is_read_back_with_the_hashes() -> None:
    said: list[tuple[str, str]] = []
    chain = read_chain(_LINES, lambda fields, own: said.append((fields["words"], own)))
    assert [words for words, _ in said] == [f"Zürich {number}" for number in range(5)]
    assert [own for _, own in said] == [json.loads(line)["hash"] for line in _LINES]
    assert chain == Chain(5, said[-1][1], len(_TEXT))
    assert read_chain([]) == Chain(0, START, 0)


@given(position=st.integers(0, len(_TEXT) - 2), value=st.integers(0, 255))
def test_any_byte_that_was_changed_is_found_where_it_is(position: int, value: int) -> None:
    if _TEXT[position] != value:
        found = _found(_TEXT[:position] + bytes([value]) + _TEXT[position + 1 :])
        assert found.startswith(f"Line {_TEXT[:position].count(10) + 1} was edited")


@given(position=st.integers(0, len(_TEXT) - 2), removed=st.integers(0, 40), put=st.binary(max_size=40))
def test_anything_that_was_replaced_is_found(position: int, removed: int, put: bytes) -> None:
    after = _TEXT[: len(_TEXT) - 1][position + removed :] + b"\n"
    changed = _TEXT[:position] + put + after
    if changed != _TEXT and changed not in (b"".join(line + b"\n" for line in _LINES[:count]) for count in range(1, 5)):
        assert re.match(r"Line \d was (edited|removed)|Line \d repeats|Line \d is out of order", _found(changed))


@given(st.lists(st.sampled_from(range(5)), min_size=1, max_size=8))
def test_no_other_order_passes(order: list[int]) -> None:
    """Only a beginning of what was written verifies, and the head file knows more."""
    lines = [_LINES[index] for index in order]
    if order == list(range(len(order))):
        assert read_chain(lines).lines == len(order)
    else:
        first = next(place for place, index in enumerate(order) if place != index) + 1
        assert _found(b"".join(line + b"\n" for line in lines)).startswith(f"Line {first} ")


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ([0, 2, 3], "Line 2 was removed: what follows line 1 is a later one."),
        ([0, 2, 1], "Line 2 is out of order: the line that belongs there comes later."),
        ([0, 1, 1, 2], "Line 3 repeats line 2."),
        ([1, 2], "Line 1 was removed"),
    ],
)
def test_it_says_what_was_done(order: list[int], why: str) -> None:
    assert _found(b"".join(_LINES[index] + b"\n" for index in order)).startswith(why)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"words":', b'"words": '),
        (b'"words":', b'"number":9,"words":'),
        (b"Z\\u00fc", b"\\u005a\\u00fc"),
        (b"Z\\u00fc", "Zü".encode()),
        (b'"seq":2', b'"seq":2.0'),
        (b'"seq":2,', b""),
    ],
)
def test_the_same_said_in_another_way_is_no_line_of_ours(old: bytes, new: bytes) -> None:
    """Spaces, a key twice, other escapes, another kind of number: programs may read such lines differently."""
    assert _LINES[1].count(old)
    assert _found(_TEXT.replace(_LINES[1], _LINES[1].replace(old, new, 1))).startswith("Line 2 was edited")


def test_a_line_of_another_chain_does_not_continue_this_one() -> None:
    chain = Chain().extended(_Said(time="t", version="1", words="other"))[0]
    other = chain.extended(_Said(time="t", version="1", words="other"))[1].encode()
    assert "Line 2 does not continue line 1" in _found(_LINES[0] + b"\n" + other)


def test_a_number_that_is_not_finite_has_no_line() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Chain().extended(_Said(time="t", version="1", words="", number=float("nan")))
