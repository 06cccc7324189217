"""Exact match, BLEU and ROUGE-L, and that counts of sites add up to those of all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from fedmedpeft.tasks.text_metrics import (
    METRICS,
    SIZE,
    answer_counts,
    answer_metrics,
    check_answer_counts,
    comparable,
    ideal_answer_counts,
    rouge_l,
    show_answer_counts,
)

_ANSWERS = st.text(alphabet="ab c.,-?1", max_size=12)
_KINDS = st.sampled_from(["closed", "open", ""])
_PAIRS = st.lists(st.tuples(_ANSWERS, _ANSWERS, _KINDS), min_size=1, max_size=8)


def counts_of(pairs: list[tuple[str, str, str]]) -> tuple[int, ...]:
    written, right, kinds = zip(*pairs, strict=True)
    return answer_counts(written, right, kinds, len(pairs))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x - ray", "X-ray"),
        ("2. 5 cm", "2.5 cm"),
        ("yes , left lung", "yes, left lung."),
        ("right   lung", "right lung"),
    ],
)
def test_word_pieces_come_back_as_they_were_written(one: str, other: str) -> None:
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(("one", "other"), [("2.5", "25"), ("left lung", "leftlung"), ("no", "")])
def test_what_differs_stays_different(one: str, other: str) -> None:
    assert comparable(one) != comparable(other)


def test_exact_match_by_kind() -> None:
    metrics = answer_metrics(
        counts_of(
            [
                ("yes", "Yes.", "closed"),
                ("no", "yes", "closed"),
                ("left lung", "left lung", "open"),
                ("lung", "left lung", "open"),
                ("x", "x", "open"),
                ("mr", "mr", ""),
            ]
        )
    )
    assert metrics["exact_match"] == pytest.approx(4 / 6)
    assert metrics["closed_exact_match"] == pytest.approx(1 / 2)
    assert metrics["open_exact_match"] == pytest.approx(2 / 3)
    assert metrics["evaluated"] == 1
    assert set(metrics) == set(METRICS)


def test_without_types_there_is_no_closed_and_no_open() -> None:
    metrics = answer_metrics(counts_of([("a", "a", ""), ("b", "c", "")]))
    assert metrics["exact_match"] == 0.5
    assert math.isnan(metrics["closed_exact_match"])
    assert math.isnan(metrics["open_exact_match"])


@pytest.mark.parametrize(
    ("written", "right", "expected"),
    [
        ("the left lung", "left lung", 4 / 5),
        ("a c b d", "a b c d", 3 / 4),
        ("lung", "heart", 0.0),
        ("", "heart", 0.0),
        ("Left-Lung", "left lung", 1.0),
    ],
)
def test_rouge_l_by_hand(written: str, right: str, expected: float) -> None:
    assert rouge_l(written, right) == pytest.approx(expected)


@given(_PAIRS)
@settings(max_examples=50, deadline=None)
def test_bleu_is_that_of_all_answers_together(pairs: list[tuple[str, str, str]]) -> None:
    written = [comparable(one) for one, _, _ in pairs]
    right = [comparable(other) for _, other, _ in pairs]
    expected = BLEU(effective_order=True).corpus_score(written, [right]).score / 100
    assert answer_metrics(counts_of(pairs))["bleu"] == pytest.approx(expected)


def test_a_right_word_has_the_highest_bleu() -> None:
    assert answer_metrics(counts_of([("yes", "yes", "closed")]))["bleu"] == pytest.approx(1.0)


@given(_PAIRS, _PAIRS)
@settings(max_examples=50, deadline=None)
def test_counts_of_sites_add_up(one: list[tuple[str, str, str]], other: list[tuple[str, str, str]]) -> None:
    added = tuple(a + b for a, b in zip(counts_of(one), counts_of(other), strict=True))
    assert added == counts_of(one + other)


@given(_PAIRS, st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_true_counts_pass(pairs: list[tuple[str, str, str]], unasked: int) -> None:
    written, right, kinds = zip(*pairs, strict=True)
    counts = answer_counts(written, right, kinds, len(pairs) + unasked)
    check_answer_counts(counts, len(pairs) + unasked, len(pairs), 10)
    metrics = answer_metrics(counts)
    assert all(math.isnan(value) or 0 <= value <= 1 + 1e-9 for value in metrics.values())


def test_made_up_counts_do_not() -> None:
    true = counts_of([("left lung", "left lung", "open"), ("yes", "no", "closed")])
    check_answer_counts(true, 2, 2, 10)
    named = list(show_answer_counts(true))
    assert sum(len(v) if isinstance(v, list) else 1 for v in show_answer_counts(true).values()) == SIZE == len(true)
    for name, amount in {
        "asked": 1,
        "answered open": 1,
        "right open": 1,
        "right closed": 2,
        "rouge": 1001,
        "correct": 5,
        "total": 5,
        "written words": 1,
    }.items():
        changed = list(true)
        changed[named.index(name) + (3 if named.index(name) > named.index("correct") else 0) * (name == "total")] += (
            amount
        )
        if name == "written words":
            changed = [*true[:-2], true[-2] + 1, true[-1]]
        with pytest.raises(ValueError, match="counts|more|n-grams"):
            check_answer_counts(changed, 2, 2, 10)
    with pytest.raises(ValueError, match="not counts"):
        check_answer_counts(true[:-1], 2, 2, 10)
    with pytest.raises(ValueError, match="not counts"):
        check_answer_counts([-1, *true[1:]], 2, 2, 10)
    with pytest.raises(ValueError, match="so many"):
        check_answer_counts(true, 3, 2, 10)


@pytest.mark.parametrize(("total", "right"), [(10**15, 3), (200, 3), (3, 10**15), (3, 20_001)])
def test_no_site_claims_more_words_than_answers_have(total: int, right: int) -> None:
    """BLEU is of all sites' words together: 10^15 of them would be the federation's score alone."""
    true = list(counts_of([("left lung", "left lung", "open"), ("yes", "no", "closed")]))
    start = SIZE - 2 - 4
    changed = [*true[:start], *[total] * 4, total, right]
    with pytest.raises(ValueError, match="more words than"):
        check_answer_counts(changed, 2, 2, 10)


def test_words_without_an_answer_are_refused() -> None:
    with pytest.raises(ValueError, match="more words than"):
        check_answer_counts([0] * (SIZE - 1) + [1], 0, 0, 10)


def test_ideal_counts_are_of_a_model_that_is_always_right() -> None:
    counts = ideal_answer_counts(20, 10, 9)
    check_answer_counts(counts, 20, 10, 9)
    metrics = answer_metrics(counts)
    assert metrics["exact_match"] == metrics["rouge_l"] == 1
    assert metrics["bleu"] == pytest.approx(1)
    assert metrics["evaluated"] == 0.5


def test_no_answers_no_metrics() -> None:
    assert all(math.isnan(value) for value in answer_metrics((0,) * SIZE).values())
    check_answer_counts(answer_counts((), (), (), 0), 0, 0, 10)
