from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.data.templates import CLOSED, OPEN, YES_NO, instruct


@pytest.mark.parametrize("pool", [OPEN, CLOSED, YES_NO])
def test_a_pool_has_five_or_six_wordings_that_hold_the_question_once(pool: tuple[str, ...]) -> None:
    assert 5 <= len(set(pool)) <= 6
    assert all(template.count("{question}") == 1 for template in pool)


def test_only_questions_for_yes_or_no_are_offered_these_options() -> None:
    def wordings(question: str, answer_type: str) -> set[str]:
        return {
            instruct(question, answer_type, image="i", seed=seed).replace(question, "{question}") for seed in range(200)
        }

    assert wordings("Is there a mass?", "closed") == set(YES_NO)
    assert wordings("Is this a CT or an MRI?", "closed") == set(CLOSED)
    assert wordings("Which side is larger?", "closed") == set(CLOSED)
    assert wordings("Is there a mass?", "open") == set(OPEN)
    offers = [template for template in YES_NO if "yes" in template and "no" in template]
    assert len(offers) >= 3
    assert not any("yes" in template for template in (*OPEN, *CLOSED))


@given(question=st.text(min_size=1, max_size=40), seed=st.integers(0, 99))
def test_the_question_is_in_it_unchanged_and_the_draw_can_be_made_again(question: str, seed: int) -> None:
    drawn = instruct(question, "open", image="a.png", seed=seed)
    assert question in drawn
    assert drawn == instruct(question, "open", image="a.png", seed=seed)


def test_seed_image_and_question_all_matter() -> None:
    drawn = {instruct("What?", "open", image=f"{image}.png", seed=0) for image in range(50)}
    assert len(drawn) == len(OPEN)
