from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.knowledge.description import enumerate_some, finish, shorten


@pytest.mark.parametrize(
    ("definition", "finished"),
    [
        ("A gland  that makes_up\nmilk.", "a gland that makes up milk"),
        ("Tall rib is a rib that is tall.", "a rib that is tall"),
        ("DNA that is torn", "DNA that is torn"),
        ("X-linked trouble.", "X-linked trouble"),
        ("", ""),
    ],
)
def test_a_definition_becomes_a_clause(definition: str, finished: str) -> None:
    assert finish(definition, ("tall rib",)) == finished


def test_a_long_description_ends_with_a_sentence_where_one_fits() -> None:
    assert shorten("a bone of the arm. It is thin. It is long", 8) == "a bone of the arm. It is thin"


def test_otherwise_it_ends_with_a_word_that_can_end_a_clause() -> None:
    assert shorten("swelling of the skin that is caused by the bite of a gnat", 9) == "swelling of the skin"


@given(st.text(), st.integers(min_value=3, max_value=30))
def test_no_description_is_longer_than_allowed(text: str, words: int) -> None:
    short = shorten(text, words)
    assert len(short.split()) <= words
    assert text == short or set(short.split()) <= set(text.split()) | {short.split()[-1]}


def test_a_few_are_enumerated() -> None:
    assert enumerate_some(["a"]) == "a"
    assert enumerate_some(["a", "b", "c", "d"], 2) == "a and b"
