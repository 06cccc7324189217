from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.tasks.ranks import (
    DEPTHS,
    METRICS,
    SIZE,
    chance,
    check_recall_counts,
    ideal_recall_counts,
    ranks,
    recall_counts,
    recall_metrics,
    show_recall_counts,
)

Table = tuple[torch.Tensor, torch.Tensor]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Scores with many ties, [I, T], and the image of each text; every image has one at least."""
    images, more = draw(st.integers(1, 12)), draw(st.integers(0, 12))
    image_of = [*range(images), *draw(st.lists(st.integers(0, images - 1), min_size=more, max_size=more))]
    levels = st.sampled_from([-1.0, 0.0, 0.5, 2.0])
    scores = draw(
        st.lists(st.lists(levels, min_size=len(image_of), max_size=len(image_of)), min_size=images, max_size=images)
    )
    order = draw(st.permutations(range(len(image_of))))
    return torch.tensor(scores), torch.tensor(image_of)[list(order)]


def _brute_force(scores: torch.Tensor, image_of: torch.Tensor) -> list[int]:
    """Sort what each query finds, wrong ones first among equals, and look through the first k."""
    images, texts = range(scores.shape[0]), range(scores.shape[1])
    found = []
    for queries, candidates, score, own in (
        (texts, images, lambda t, i: scores[i, t], lambda t, i: image_of[t] == i),
        (images, texts, lambda i, t: scores[i, t], lambda i, t: image_of[t] == i),
    ):
        orders = [sorted(candidates, key=lambda c: (-float(score(q, c)), bool(own(q, c)))) for q in queries]
        hits = [sum(any(own(q, c) for c in orders[q][:k]) for q in queries) for k in DEPTHS]
        found += [len(queries), *hits]
    return found


@given(tables())
def test_hits_are_those_of_a_sorted_list(table: Table) -> None:
    counts = recall_counts(*table)
    assert list(counts[:-2]) == _brute_force(*table)
    check_recall_counts(counts, table[0].shape[1])


@given(tables())
def test_chance_is_the_mean_over_random_orders(table: Table) -> None:
    """Against the probability written out: the first right one is at place p of a random order."""
    scores, image_of = table
    texts, images = scores.shape[1], scores.shape[0]
    expected = sum(min(k, images) / images for k in DEPTHS) / 6
    for image in range(images):
        wrong = texts - int((image_of == image).sum())
        for k in DEPTHS:
            miss = math.prod((wrong - p) / (texts - p) for p in range(min(k, texts)))
            expected += (1 - miss) / images / 6
    assert recall_metrics(recall_counts(*table))["chance"] == pytest.approx(expected, abs=0.004)


@given(tables())
def test_one_answer_to_everything_finds_nothing(table: Table) -> None:
    """Nothing, that is, but where fewer wrong candidates are there than are looked at."""
    scores, image_of = torch.zeros_like(table[0]), table[1]
    counts = recall_counts(scores, image_of)
    images, texts = scores.shape
    wrong = [texts - int((image_of == image).sum()) for image in range(images)]
    assert list(counts[1:4]) == [texts * (images <= k) for k in DEPTHS]
    assert list(counts[5:8]) == [sum(w < k for w in wrong) for k in DEPTHS]
    assert recall_counts(torch.full_like(scores, math.nan), image_of) == counts


def test_scores_that_are_no_numbers_come_first_when_wrong_and_last_when_right() -> None:
    right = torch.tensor([[True, False, False]] * 3)
    scores = torch.tensor([[1.0, math.nan, 0.0], [math.nan, 0.0, 0.0], [-math.inf, 0.0, -math.inf]])
    assert ranks(scores, right).tolist() == [1, 2, 2]


def test_chance_by_hand() -> None:
    assert chance(1, 4, 1) == 0.25
    assert chance(2, 4, 1) == 0.5
    assert chance(2, 4, 2) == pytest.approx(1 - 1 / 6)
    assert chance(1, 4, 10) == 1


def test_metrics_by_hand() -> None:
    """Three images, two texts of the first: its second text is nearest, the third's text finds the second."""
    scores = torch.tensor([[0.1, 0.9, 0.2, 0.3], [0.0, 0.5, 0.6, 0.7], [0.2, 0.1, 0.3, 0.4]])
    counts = recall_counts(scores, torch.tensor([0, 0, 1, 2]))
    assert counts[:8] == (4, 2, 4, 4, 3, 2, 3, 3)
    found = recall_metrics(counts)
    assert tuple(found) == METRICS
    assert [found["ir_recall_1"], found["tr_recall_1"]] == pytest.approx([0.5, 2 / 3])
    assert found["mean_recall"] == pytest.approx((0.5 + 2 / 3 + 4) / 6)
    assert found["chance"] == pytest.approx((1 / 3 + 1 + 1 + (0.5 + 0.25 + 0.25) / 3 + 1 + 1) / 6, abs=0.001)


@given(tables(), tables())
def test_counts_of_sites_add_up(one: Table, other: Table) -> None:
    a, b = recall_counts(*one), recall_counts(*other)
    together = recall_metrics([x + y for x, y in zip(a, b, strict=True)])
    for name, hits, total in (("ir_recall_5", 2, 0), ("tr_recall_1", 5, 4)):
        assert together[name] == pytest.approx((a[hits] + b[hits]) / (a[total] + b[total]))


def test_nothing_is_not_a_number() -> None:
    assert all(math.isnan(value) for value in recall_metrics([0] * SIZE).values())
    check_recall_counts([0] * SIZE, 0)


def test_a_model_that_is_always_right() -> None:
    for texts in (1, 7, 300):
        ideal = ideal_recall_counts(texts)
        assert tuple(ideal) == recall_counts(torch.eye(texts), torch.arange(texts))
        assert recall_metrics(ideal)["mean_recall"] == 1
    check_recall_counts(ideal_recall_counts(0), 0)


GOOD = (20, 3, 8, 12, 20, 2, 9, 11, 16000, 16000)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 21),  # more texts than there are
        (1, 9),  # more hits at 1 than at 5
        (3, 21),  # more hits than texts
        (4, 0),  # no images
        (4, 21),  # more images than texts
        (4, 12),  # so many images have another chance
        (5, -1),
        (8, 16001),
        (9, 15999),  # less than chance can be
        (9, 60001),  # more than all
    ],
)
def test_counts_that_cannot_be(place: int, value: int) -> None:
    check_recall_counts(GOOD, 20)
    with pytest.raises(ValueError, match=r"."):
        check_recall_counts([*GOOD[:place], value, *GOOD[place + 1 :]], 20)


def test_among_as_many_candidates_as_are_looked_at_nothing_is_missed() -> None:
    ten_images = [20, 3, 8, 20, 10, 2, 9, 10, 32000, 16000]
    check_recall_counts(ten_images, 20)
    with pytest.raises(ValueError, match="a miss among"):
        check_recall_counts([20, 3, 8, 19, *ten_images[4:]], 20)


@pytest.mark.parametrize(("counts", "texts"), [(GOOD[:-1], 20), ([0] * SIZE, 3), ([0, *GOOD[1:]], 0)])
def test_counts_of_another_kind(counts: list[int], texts: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_recall_counts(counts, texts)


def test_counts_have_names() -> None:
    shown = show_recall_counts(GOOD)
    assert (shown["texts"], shown["text_hits_at_10"], shown["images"], shown["image_hits_at_1"]) == (20, 12, 20, 2)
