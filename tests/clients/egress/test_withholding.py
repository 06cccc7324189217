"""What the policy keeps back is not in the answer, and the answer says so."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.egress.withholding import Reply, why_never, withhold
from clients.policy_section import PolicySection
from fedmedpeft.exchange import AnswersReply, JoinReply, ReferenceReply, Refusal, SiteError, VisitReply
from fedmedpeft.tasks import build_task
from tests.clients.egress.answers import ANSWERS, JOIN, LAST, REFERENCE, REPLIES, TASK, VISIT, scores

_ALL = PolicySection(smallest_count=0)
_BY_COUNTS = ("accuracy", "balanced_accuracy", "macro_f1", "quadratic_kappa")


def _section(**values: Any) -> PolicySection:
    return _ALL.model_copy(update=values)


def _visit(section: PolicySection, reply: VisitReply = VISIT) -> VisitReply:
    kept = withhold(reply, section, TASK)
    assert isinstance(kept, VisitReply)
    return kept


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_a_policy_that_keeps_nothing_back_changes_nothing(reply: Reply) -> None:
    assert repr(withhold(reply, _ALL, TASK)) == repr(reply)


@pytest.mark.parametrize("values", [{"metrics": "none"}, {"counts": False}, {"metrics": ("accuracy",)}])
def test_without_its_counts_a_split_is_withheld(values: dict[str, Any]) -> None:
    kept = _visit(_section(**values))
    assert (kept.before, kept.withheld) == ({}, "val")
    assert kept.state is VISIT.state
    last = _visit(_section(**values), LAST)
    assert (last.before, last.withheld) == ({}, "val,test")


def test_a_list_that_has_all_that_counts_give_keeps_back_the_rest() -> None:
    kept = _visit(_section(metrics=_BY_COUNTS))
    assert set(kept.before["val"].metrics) == set(_BY_COUNTS)
    assert kept.withheld == ""
    assert kept.before["val"].counts == VISIT.before["val"].counts


@pytest.mark.parametrize(
    ("counts", "least", "told"),
    [
        ((20, 0, 0, 10), 10, True),
        ((20, 0, 1, 10), 10, False),
        ((20, 9, 0, 10), 10, False),
        ((20, 0, 0, 0), 21, False),
        ((3, 1, 0, 2), 0, True),
        ((0, 0, 0, 20), 20, True),
        ((1, 1, 1, 1), 1, True),
    ],
)
def test_small_cells_keep_a_split_back(counts: tuple[int, ...], least: int, told: bool) -> None:
    kept = _visit(_section(smallest_cell=least), replace(VISIT, before={"val": scores(*counts)}))
    assert ("val" in kept.before) is told
    assert kept.withheld == ("" if told else "val")


def test_what_a_site_trained_for_itself_is_withheld_with_its_split() -> None:
    """Of the same images: two confusion matrices of them, one with a small cell."""
    before = {"val": scores(27, 3, 0, 30), "own-val": scores(30, 0, 0, 30), "test": scores(30, 0, 0, 30)}
    kept = _visit(_section(smallest_cell=10), replace(LAST, before=before, withheld=""))
    assert (set(kept.before), kept.withheld) == ({"test"}, "val")
    before = {"val": scores(30, 0, 0, 30), "own-val": scores(27, 3, 0, 30), "test": scores(30, 0, 0, 30)}
    kept = _visit(_section(smallest_cell=10), replace(LAST, before=before, withheld=""))
    assert (set(kept.before), kept.withheld) == ({"val", "test"}, "")


def test_the_training_loss_stays_where_the_policy_says_so() -> None:
    kept = _visit(_section(training_loss=False))
    assert math.isnan(kept.loss)
    assert kept.withheld == "loss"
    assert _visit(_section(training_loss=False, metrics="none")).withheld == "val,loss"


def test_a_small_site_does_not_join() -> None:
    least = _section(smallest_count=81)
    for reply in (JOIN, VISIT):
        with pytest.raises(SiteError, match="smallest-count: 81") as caught:
            withhold(reply, least, TASK)
        assert caught.value.code is Refusal.POLICY
        assert "80" not in caught.value.reason


def test_small_splits_count_as_none_and_small_gaps_are_not_told() -> None:
    reply = replace(JOIN, samples={"train": 80, "val": 30, "test": 9}, skipped={"An image file is missing.": 9})
    kept = withhold(reply, _section(smallest_count=10), TASK)
    assert isinstance(kept, JoinReply)
    assert kept.samples == {"train": 80, "val": 30, "test": 0}
    assert kept.skipped == {}


def test_reasons_that_are_not_public_are_not_told() -> None:
    kept = withhold(replace(JOIN, skipped={"patient-4711.png": 99}), _ALL, TASK)
    assert isinstance(kept, JoinReply)
    assert kept.skipped == {}


def test_rare_answers_are_not_named() -> None:
    kept = withhold(ANSWERS, _section(smallest_count=7), build_task("vqa"))
    assert isinstance(kept, AnswersReply)
    assert kept.counts == {"yes": 12, "no": 7}


@pytest.mark.parametrize(("least", "told"), [(60, True), (61, False)])
def test_a_split_of_few_samples_is_kept_back(least: int, told: bool) -> None:
    kept = _visit(_section(smallest_count=least), replace(VISIT, before={"val": scores(27, 3, 0, 30)}))
    assert ("val" in kept.before) is told


def test_a_reference_without_scores() -> None:
    kept = withhold(REFERENCE, _section(smallest_cell=8), TASK)
    assert isinstance(kept, ReferenceReply)
    assert kept.scores == {}
    assert kept.withheld == "test"


@given(
    st.sampled_from(sorted(REPLIES)),
    st.lists(st.integers(0, 30), min_size=4, max_size=4),
    st.integers(0, 12),
    st.sampled_from(["all", "none", _BY_COUNTS, ("auroc",)]),
    st.booleans(),
    st.booleans(),
)
def test_withholding_twice_changes_nothing_and_nothing_small_is_left(
    kind: str, counts: list[int], least: int, metrics: Any, with_counts: bool, loss: bool
) -> None:
    section = _section(
        smallest_count=least, smallest_cell=least, metrics=metrics, counts=with_counts, training_loss=loss
    )
    reply = REPLIES[kind]
    if isinstance(reply, VisitReply) and any(counts):
        reply = replace(reply, before=dict.fromkeys(reply.before, scores(*counts)))
    once = withhold(reply, section, TASK)
    assert repr(withhold(once, section, TASK)) == repr(once)
    if isinstance(once, VisitReply):
        assert {"val"} <= set(once.before) | set(once.withheld.split(","))
        numbers = [number for score in once.before.values() for number in (score.samples, *score.counts)]
        assert not any(0 < number < least for number in numbers)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, None),
        ({"metrics": "none"}, "metrics: none"),
        ({"counts": False}, "counts: false"),
        ({"metrics": ("auroc", "accuracy")}, "balanced_accuracy, macro_f1, quadratic_kappa"),
        ({"metrics": _BY_COUNTS}, None),
    ],
)
def test_a_policy_that_tells_no_scores_is_explained(values: dict[str, Any], words: str | None) -> None:
    why = why_never(_section(**values), TASK)
    assert (why is None) if words is None else (why is not None and words in why)
