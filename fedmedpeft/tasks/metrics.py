"""Classification metrics from scores, and from confusion counts alone, so that sites can be added up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "quadratic_kappa")
"""Every metric this project reports for classification; ``nan`` where it is undefined on the data at hand."""


def confusion_matrix(labels: IntArray, predictions: IntArray, classes: int) -> IntArray:
    """Counts [C, C]: row = true class, column = predicted class."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


def metrics_of_confusion(matrix: IntArray) -> dict[str, float]:
    """All metrics that need no scores. Classes without true samples count in none of the class averages.

    Quadratic kappa weighs a mistake by the squared distance of the class indices (Cohen, 1968), which means something
    only where the classes are ordered, such as grades.
    """
    total = matrix.sum()
    if total == 0:
        return {name: float("nan") for name in METRICS if name != "auroc"}
    true, predicted, hits = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    present = true > 0
    return {
        "accuracy": float(hits.sum() / total),
        "balanced_accuracy": float((hits[present] / true[present]).mean()),
        "macro_f1": float((2 * hits[present] / (true + predicted)[present]).mean()),
        "quadratic_kappa": _quadratic_kappa(matrix),
    }


def classification_metrics(labels: IntArray, scores: FloatArray) -> dict[str, float]:
    """Every metric of :data:`METRICS`.

    Args:
        labels: true class indices [N].
        scores: class probabilities or logits' softmax [N, C].
    """
    matrix = confusion_matrix(labels, scores.argmax(1), scores.shape[1])
    return {**metrics_of_confusion(matrix), "auroc": _auroc(labels, scores)}


def _auroc(labels: IntArray, scores: FloatArray) -> float:
    """One-against-rest area under the ROC curve, averaged over the classes that are present and not alone."""
    # Imported here: it takes a second, and a server, which computes no such area, starts with every run.
    from sklearn.metrics import roc_auc_score

    areas = [
        roc_auc_score(labels == index, scores[:, index])
        for index in range(scores.shape[1])
        if 0 < (labels == index).sum() < len(labels)
    ]
    if scores.shape[1] == 2:  # both columns say the same
        areas = areas[1:]
    return float(np.mean(areas)) if areas else float("nan")


def _quadratic_kappa(matrix: IntArray) -> float:
    size, total = len(matrix), matrix.sum()
    weights = np.subtract.outer(np.arange(size), np.arange(size)) ** 2
    expected = np.outer(matrix.sum(1), matrix.sum(0)) / total
    disagreement = (weights * expected).sum()
    return float(1 - (weights * matrix).sum() / disagreement) if disagreement else float("nan")
