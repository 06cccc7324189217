from __future__ import annotations

import math

import pytest

from fedmedpeft.exchange import Scores
from fedmedpeft.tasks import Classification
from server.records import RoundRecord, mean, mean_loss, union_metrics, worst

TASK = Classification(("a", "b"))
METRIC = TASK.primary


def scores(counts: list[int], loss: float = 0.5) -> Scores:
    metrics = TASK.metrics_of_counts(counts) if sum(counts) else {}
    return Scores(sum(counts), loss if sum(counts) else math.nan, metrics, counts)


def test_a_round_counts_each_site_once_and_each_image_once() -> None:
    row = RoundRecord(
        1, 3, 3, "aggregated", 0, 0, 0.0, {"a": scores([9, 0, 0, 9], 0.1), "b": scores([1, 1, 1, 1], 0.9)}
    )
    assert row.mean(METRIC) == pytest.approx(0.75)
    assert row.loss == pytest.approx((18 * 0.1 + 4 * 0.9) / 22)
    assert row.worst(METRIC) == ("b", 0.5)


def test_a_site_without_images_counts_nowhere() -> None:
    row = RoundRecord(1, 2, 2, "aggregated", 0, 0, 0.0, {"a": scores([2, 0, 0, 2]), "b": scores([0, 0, 0, 0])})
    assert (row.mean(METRIC), row.loss, row.worst(METRIC)) == (1.0, 0.5, ("a", 1.0))


def test_without_scores_everything_is_nan() -> None:
    row = RoundRecord(1, 2, 0, "not aggregated", 0, 0, 0.0)
    assert math.isnan(row.mean(METRIC))
    assert math.isnan(row.loss)
    assert row.worst(METRIC)[0] == ""
    assert union_metrics(TASK, []) == {}
    assert math.isnan(mean([math.nan]))
    assert math.isnan(mean_loss([]))


def test_the_union_adds_counts_up_rather_than_averaging() -> None:
    pooled = union_metrics(TASK, [scores([8, 2, 0, 0]), scores([0, 0, 5, 5])])
    assert pooled["balanced_accuracy"] == pytest.approx((0.8 + 0.5) / 2)
    assert pooled["accuracy"] == pytest.approx(13 / 20)


def test_the_worst_of_equals_is_the_first_by_name() -> None:
    assert worst({"b": 0.5, "a": 0.5, "c": math.nan}) == ("a", 0.5)
