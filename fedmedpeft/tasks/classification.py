"""Image classification: one linear head, cross-entropy, and an evaluation that can be added up over sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedmedpeft.tasks.metrics import IntArray, classification_metrics, confusion_matrix


@dataclass(frozen=True)
class Evaluation:
    """Aggregates over one split of one site: nothing per sample."""

    samples: int
    loss: float
    metrics: dict[str, float]
    confusion: IntArray


@dataclass(frozen=True)
class Classification:
    """The task: ``classes`` in the order of their indices."""

    classes: tuple[str, ...]

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def loss(self, logits: torch.Tensor, labels: torch.Tensor, prior: torch.Tensor | None = None) -> torch.Tensor:
        """Mean cross-entropy of logits [B, C] and labels [B].

        With ``prior`` (log class frequencies of the site, [C]) it is added to the logits, so that the logits
        themselves learn to be free of the site's label skew: logit adjustment, Menon et al., ICLR 2021; in federated
        learning Zhang et al., FedLC, ICML 2022.
        """
        return cross_entropy(logits if prior is None else logits + prior, labels)

    def log_prior(self, labels: torch.Tensor, strength: float) -> torch.Tensor:
        """``strength`` x log frequencies [C] of ``labels`` [N], every class counted once more than seen."""
        counts = torch.bincount(labels, minlength=self.outputs).float() + 1
        return strength * torch.log(counts / counts.sum())

    def evaluate(self, logits: torch.Tensor, labels: torch.Tensor) -> Evaluation:
        """Loss and metrics of logits [N, C] against labels [N]; an empty split gives ``nan``."""
        if len(labels) == 0:
            empty = np.zeros((self.outputs, self.outputs), dtype=np.int64)
            return Evaluation(0, float("nan"), {}, empty)
        scores, truth = logits.double().softmax(1).cpu().numpy(), labels.cpu().numpy()
        return Evaluation(
            samples=len(labels),
            loss=float(cross_entropy(logits.double(), labels)),
            metrics=classification_metrics(truth, scores),
            confusion=confusion_matrix(truth, scores.argmax(1), self.outputs),
        )


def new_head(features: int, outputs: int, weight: nn.Parameter, bias: nn.Parameter) -> nn.Linear:
    """A linear head [d] -> [C] around given parameters."""
    head = nn.Linear(features, outputs, device="meta")
    head.weight, head.bias = weight, bias
    return head
