from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.knowledge.tokens import key, tokenise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("X-ray", "x ray"),
        ("Xrays", "x-ray"),
        ("Crohn's disease", "Crohn\u2019s disease"),
        ("Crohn's disease", "crohns disease"),
        ("Ménière disease", "Meniere disease"),
        ("haemorrhage", "hemorrhages"),
        ("tumours", "tumor"),
        ("oesophagus", "esophagus"),
        ("calibre", "caliber"),
        ("colonisation", "colonization"),
        ("vertebrae", "vertebra"),
        ("metastases", "metastasis"),
        ("biopsies", "biopsy"),
        ("abscesses", "abscess"),
        ("non\u2011small cell", "non-small cell"),
    ],
)
def test_two_ways_to_write_one_thing_have_one_key(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("mass", "mas"), ("lung abscess", "lung. abscess"), ("pelvis", "pelvi"), ("iris", "iri"), ("ileum", "ilium")],
)
def test_different_things_have_different_keys(one: str, other: str) -> None:
    assert key(one) != key(other)


def test_punctuation_between_words_is_a_token_of_its_own() -> None:
    tokens = tokenise("Lung, liver?")
    assert [(token.form, token.word) for token in tokens] == [("lung", True), (",", False), ("liver", True)]
    assert [(token.start, token.end) for token in tokens] == [(0, 4), (4, 6), (6, 11)]


@given(st.text())
def test_any_text_is_cut_in_order_and_within_itself(text: str) -> None:
    tokens = tokenise(text)
    assert all(0 <= token.start < token.end <= len(text) for token in tokens)
    assert [token.start for token in tokens] == sorted(token.start for token in tokens)
