from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from fedmedpeft.tasks.metrics import classification_metrics, confusion_matrix, metrics_of_confusion


def _case(classes: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(classes, size=count)])
    scores = generator.dirichlet(np.ones(classes), size=len(labels))
    return labels, scores


@given(st.integers(2, 6), st.integers(0, 60), st.integers(0, 10_000))
def test_equal_to_scikit_learn(classes: int, count: int, seed: int) -> None:
    labels, scores = _case(classes, count, seed)
    predictions, found = scores.argmax(1), classification_metrics(labels, scores)
    every = list(range(classes))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, predictions))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predictions))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels, predictions, average="macro", labels=every))
    assert found["quadratic_kappa"] == pytest.approx(
        sk.cohen_kappa_score(labels, predictions, weights="quadratic", labels=every)
    )
    expected = (
        sk.roc_auc_score(labels, scores[:, 1]) if classes == 2 else sk.roc_auc_score(labels, scores, multi_class="ovr")
    )
    assert found["auroc"] == pytest.approx(expected)


@given(st.integers(2, 5), st.integers(0, 10_000))
def test_confusion_counts_of_sites_add_up_to_the_union(classes: int, seed: int) -> None:
    (a, scores_a), (b, scores_b) = _case(classes, 20, seed), _case(classes, 31, seed + 1)
    together = classification_metrics(np.concatenate([a, b]), np.concatenate([scores_a, scores_b]))
    added = metrics_of_confusion(
        confusion_matrix(a, scores_a.argmax(1), classes) + confusion_matrix(b, scores_b.argmax(1), classes)
    )
    assert all(added[name] == pytest.approx(together[name]) for name in added)


def test_absent_classes_do_not_count() -> None:
    labels, scores = np.array([0, 0, 1]), np.array([[0.9, 0.05, 0.05], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])
    found = classification_metrics(labels, scores)
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 1) / 2)
    assert found["auroc"] == pytest.approx(1.0)


def test_one_class_alone_has_no_auroc() -> None:
    found = classification_metrics(np.zeros(3, dtype=int), np.full((3, 2), 0.5))
    assert math.isnan(found["auroc"])
    assert found["balanced_accuracy"] == 1.0


def test_nothing_gives_nan() -> None:
    assert all(math.isnan(value) for value in metrics_of_confusion(np.zeros((3, 3), dtype=int)).values())
