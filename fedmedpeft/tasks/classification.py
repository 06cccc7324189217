"""Classification: one linear head, cross-entropy, and an evaluation that can be added up over sites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedmedpeft.backbones import Backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.split import Split
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.tasks.metrics import METRICS, IntArray, classification_metrics, confusion_matrix, metrics_of_confusion
from fedmedpeft.tasks.task import Evaluation, Head, RowTask, register_task


@register_task("classification")
class Classification(RowTask):
    """Which of the classes an image shows, or an image with its caption where the backbone reads texts."""

    summary = "one class per image, or per image and caption where the backbone reads texts"
    metrics = METRICS
    primary = "balanced_accuracy"
    secondary = ("auroc",)
    heading = "bal.acc"
    replaceable_head = True
    claimed = ("auroc",)

    def make_head(self, backbone: Backbone, init: Initialiser) -> Head:
        head = nn.Linear(backbone.feature_size, len(self.classes), device="meta")
        head.weight = init.normal("head.weight", len(self.classes), backbone.feature_size, std=0.02)
        head.bias = init.zeros(len(self.classes))
        return head, {"head.weight": head.weight, "head.bias": head.bias}

    def check_table(self, table: ImageTable, source: str) -> None:
        super().check_table(table, source)
        if table.answers is not None:
            raise ConfigError(
                f"Data source '{source}' has questions with answers, which task='classification' does not learn. Set "
                "task='vqa', or give data with a class for each image."
            )

    def align(self, split: Split, classes: Sequence[str]) -> Split:
        unknown = [name for name in classes if name not in self.classes]
        if unknown:
            raise DataError(
                f"The data has classes that the adapter does not know: {', '.join(unknown)}. "
                f"It knows: {', '.join(self.classes)}."
            )
        index = torch.tensor([self.classes.index(name) for name in classes])
        return replace(split, labels=index[split.labels])

    def prior(self, split: Split, strength: float) -> torch.Tensor:
        """``strength`` x log frequencies [C] of the labels, every class counted once more than seen."""
        counts = torch.bincount(split.labels, minlength=len(self.classes)).float() + 1
        return strength * torch.log(counts / counts.sum())

    def loss_of(
        self, outputs: torch.Tensor, split: Split, rows: torch.Tensor, prior: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean cross-entropy of logits [B, C].

        With ``prior`` (log class frequencies of the site, [C]) it is added to the logits, so that the logits
        themselves learn to be free of the site's label skew: logit adjustment, Menon et al., ICLR 2021; in federated
        learning Zhang et al., FedLC, ICML 2022.
        """
        labels = split.labels[rows].to(outputs.device)
        return cross_entropy(outputs if prior is None else outputs + prior, labels)

    def score(self, outputs: torch.Tensor, split: Split) -> Evaluation:
        if not len(split):
            return Evaluation(0, math.nan, {}, (0,) * len(self.classes) ** 2)
        scores, truth = outputs.double().softmax(1).numpy(), split.labels.numpy()
        matrix = confusion_matrix(truth, scores.argmax(1), len(self.classes))
        return Evaluation(
            samples=len(split),
            loss=float(cross_entropy(outputs.double(), split.labels)),
            metrics=classification_metrics(truth, scores),
            counts=tuple(int(count) for count in matrix.ravel()),
        )

    def metrics_of_counts(self, counts: Sequence[int]) -> dict[str, float]:
        """All but AUROC, which needs scores."""
        return metrics_of_confusion(_matrix(counts))

    def vet(self, counts: Sequence[int], samples: int) -> None:
        if len(counts) != len(self.classes) ** 2 or min(counts) < 0 or sum(counts) != samples:
            raise ValueError("not a confusion matrix of so many samples")

    def ideal_counts(self, labels: Sequence[int]) -> list[int]:
        return [int(count) for count in np.diag(labels).ravel()]

    def show_counts(self, counts: Sequence[int]) -> dict[str, Any]:
        return {"confusion": _matrix(counts).tolist()}


def _matrix(counts: Sequence[int]) -> IntArray:
    """Counts [C, C]: row = true class, column = predicted class."""
    size = math.isqrt(len(counts))
    return np.array(counts, dtype=np.int64).reshape(size, size)
