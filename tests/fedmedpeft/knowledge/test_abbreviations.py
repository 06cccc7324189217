from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.knowledge.abbreviations import COMMON, explained


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A computed tomography (CT) scan", {"CT": "computed tomography"}),
        ("seen on diffusion-weighted imaging (DWI).", {"DWI": "diffusion-weighted imaging"}),
        ("the CT (computed tomography of the chest) shows", {"CT": "computed tomography"}),
        ("on CXR (chest x-ray, two views)", {"CXR": "chest x-ray"}),
        ("a PA (from the back) view", {}),
        ("no such letters (CT)", {}),
        ("the left side (left)", {}),
        ("(CT) first", {}),
        ("Computed. Tomography (CT)", {}),
        ("computed tomography (2019)", {}),
        ("", {}),
    ],
)
def test_what_a_text_explains_itself(text: str, found: dict[str, str]) -> None:
    assert explained(text) == found


@given(st.text(alphabet="abC (),.é\n", max_size=60))
def test_a_long_form_stands_in_the_text_and_is_longer(text: str) -> None:
    for short, long in explained(text).items():
        assert " ".join(long.split()) in " ".join(text.split())
        assert short in text
        assert len(long) > len(short)


def test_common_abbreviations_are_capitals() -> None:
    assert all(short.isupper() and long for short, long in COMMON.items())
