from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.data.answers import guess_answer_type, normalise_answer


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("Yes", "yes"),
        ("  Right \n Lung. ", "right lung"),
        ('"Right lung."', "right lung"),
        ("\u201cYes\u201d.", "yes"),
        ("3", "3"),
        ("2.5 cm", "2.5 cm"),
        ("T2-weighted", "t2-weighted"),
        ("5.", "5"),
        ("Crohn's", "crohn's"),
        ("\uff39\uff45\uff53", "yes"),  # full-width letters
        ("肺。", "肺"),
        ("...", ""),
    ],
)
def test_form_goes_and_content_stays(written: str, normal: str) -> None:
    assert normalise_answer(written) == normal


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(answer: str) -> None:
    normal = normalise_answer(answer)
    assert normalise_answer(normal) == normal
    assert normal == " ".join(normal.split())


@given(st.text(alphabet="aB c.3'", max_size=12))
def test_case_and_space_make_no_difference(answer: str) -> None:
    assert normalise_answer(f"  {answer.upper()} ") == normalise_answer(answer)


def test_only_yes_and_no_are_guessed_to_be_closed() -> None:
    assert [guess_answer_type(answer) for answer in ("yes", "no", "none", "mri")] == [
        "closed",
        "closed",
        "open",
        "open",
    ]
