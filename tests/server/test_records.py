from __future__ import annotations

import math

import numpy as np
import pytest

from fedmedpeft.exchange import Scores
from fedmedpeft.tasks import metrics_of_confusion
from server.records import RoundRecord, mean, mean_loss, union_metrics, worst


def scores(confusion: list[int], loss: float = 0.5) -> Scores:
    metrics = metrics_of_confusion(np.array(confusion).reshape(2, 2)) if sum(confusion) else {}
    return Scores(sum(confusion), loss if sum(confusion) else math.nan, metrics, confusion)


def test_a_round_counts_each_site_once_and_each_image_once() -> None:
    row = RoundRecord(
        1, 3, 3, "aggregated", 0, 0, 0.0, {"a": scores([9, 0, 0, 9], 0.1), "b": scores([1, 1, 1, 1], 0.9)}
    )
    assert row.metric == pytest.approx(0.75)
    assert row.loss == pytest.approx((18 * 0.1 + 4 * 0.9) / 22)
    assert row.worst == ("b", 0.5)


def test_a_site_without_images_counts_nowhere() -> None:
    row = RoundRecord(1, 2, 2, "aggregated", 0, 0, 0.0, {"a": scores([2, 0, 0, 2]), "b": scores([0, 0, 0, 0])})
    assert (row.metric, row.loss, row.worst) == (1.0, 0.5, ("a", 1.0))


def test_without_scores_everything_is_nan() -> None:
    row = RoundRecord(1, 2, 0, "not aggregated", 0, 0, 0.0)
    assert math.isnan(row.metric)
    assert math.isnan(row.loss)
    assert row.worst[0] == ""
    assert union_metrics([]) == {}
    assert math.isnan(mean([math.nan]))
    assert math.isnan(mean_loss([]))


def test_the_union_adds_counts_up_rather_than_averaging() -> None:
    pooled = union_metrics([scores([8, 2, 0, 0]), scores([0, 0, 5, 5])])
    assert pooled["balanced_accuracy"] == pytest.approx((0.8 + 0.5) / 2)
    assert pooled["accuracy"] == pytest.approx(13 / 20)


def test_the_worst_of_equals_is_the_first_by_name() -> None:
    assert worst({"b": 0.5, "a": 0.5, "c": math.nan}) == ("a", 0.5)
