"""Medical visual question answering, as classification over a vocabulary of answers that the federation agrees on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from fedmedpeft.backbones import Backbone
from fedmedpeft.components import ConfigError, Options
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.split import Split
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.tasks.answers import UNKNOWN, read_answers, soft_targets
from fedmedpeft.tasks.task import Evaluation, Head, RowTask, register_task

_COUNTS = ("score", "questions", "answerable")
_THOUSANDTHS = 1000


class VqaOptions(Options):
    """Options of ``vqa``."""

    min_count: int = Field(
        2,
        ge=1,
        description="an answer is a class where it occurs at least so often in one site's training questions; rarer "
        "ones are never named to the server, since they may identify a patient",
    )
    answers: str = Field(
        "", description="file of the answers, one a line, at the server and every site; empty: the sites agree on them"
    )
    hidden: int = Field(0, ge=0, description="width of the head's hidden layer; 0: as wide as the feature")
    rare_start: bool = Field(
        True,
        description="before training every answer has the probability 1 / answers, so that no steps go into learning "
        "that most answers are wrong (Lin et al., Focal loss, ICCV 2017); false: 1 / 2, as published",
    )


@register_task("vqa", VqaOptions)
class Vqa(RowTask):
    """Which answer of the vocabulary is right (the head and loss of METER, Dou et al., CVPR 2022).

    The vocabulary is made of the sites' training answers, before they join, or given. Nothing of validation or test
    answers enters it: a question whose answer is not in it counts as answered wrongly, and ``answerable`` says how many
    have one that is. Figures of published systems whose vocabulary holds the test answers too are not comparable.
    """

    summary = "the answer to a question about an image, out of a vocabulary that the sites agree on"
    metrics = ("accuracy", "closed_accuracy", "open_accuracy", "answerable")
    primary = "accuracy"
    secondary = ("closed_accuracy", "open_accuracy", "answerable")
    heading = "accuracy"
    unit = "questions"
    reads_text = True
    classes_from = "agreement"
    agreement_options = ("min_count", "answers")
    options: VqaOptions

    def __init__(self, classes: Sequence[str] = (), options: Options | None = None) -> None:
        super().__init__(classes, options or VqaOptions())
        self._labels = {answer: label for label, answer in enumerate(self.classes)}

    @property
    def least(self) -> int:
        return self.options.min_count

    def given_classes(self) -> tuple[str, ...] | None:
        return read_answers(Path(self.options.answers)) if self.options.answers else None

    def make_head(self, backbone: Backbone, init: Initialiser) -> Head:
        width, answers = backbone.feature_size, len(self.classes)
        hidden = self.options.hidden or width
        last = init.linear("head.3", hidden, answers, std=0.02)
        if self.options.rare_start and answers > 1:
            last.bias = init.constant(-math.log(answers - 1), answers)
        first = init.linear("head.0", width, hidden, std=0.02)
        head = nn.Sequential(first, init.layer_norm(hidden), nn.GELU(), last)
        return head, {f"head.{name}": parameter for name, parameter in head.named_parameters()}

    def check_table(self, table: ImageTable, source: str) -> None:
        super().check_table(table, source)
        if table.answers is None:
            raise ConfigError(
                f"Data source '{source}' has texts without answers, and task='vqa' learns answers to questions. Set "
                "task='classification', or choose a source of questions."
            )

    def check(self, split: Split) -> None:
        super().check(split)
        if (self._labels_of(split) == UNKNOWN).all():
            raise DataError(
                "None of the site's training answers is among the run's. Give another list, or lower min_count.",
                public="None of its training answers is among the run's answers.",
            )

    def loss_of(
        self, outputs: torch.Tensor, split: Split, rows: torch.Tensor, prior: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Binary cross-entropy of logits [B, C], mean over rows and answers, times the number of answers."""
        return answer_loss(outputs, self._targets(self._labels_of(split)[rows]).to(outputs))

    def score(self, outputs: torch.Tensor, split: Split) -> Evaluation:
        """Accuracy is the mean score of the answers that the model ranks first."""
        if not len(split):
            return Evaluation(0, math.nan, {}, (0,) * 2 * len(_COUNTS))
        labels = self._labels_of(split)
        targets = self._targets(labels).double()
        right = targets.gather(1, outputs.argmax(1, keepdim=True)).squeeze(1)
        closed = torch.tensor([kind == "closed" for kind in split.answer_types or [""] * len(split)])
        counts: list[int] = []
        for group in (closed, ~closed):
            score = (right[group] * _THOUSANDTHS).round().sum()
            counts += [int(score), int(group.sum()), int((labels[group] != UNKNOWN).sum())]
        loss = float(answer_loss(outputs.double(), targets))
        return Evaluation(len(split), loss, self.metrics_of_counts(counts), tuple(counts))

    def metrics_of_counts(self, counts: Sequence[int]) -> dict[str, float]:
        closed, open_ = counts[: len(_COUNTS)], counts[len(_COUNTS) :]
        score, questions, answerable = (one + other for one, other in zip(closed, open_, strict=True))
        return {
            "accuracy": _share(score, questions * _THOUSANDTHS),
            "closed_accuracy": _share(closed[0], closed[1] * _THOUSANDTHS),
            "open_accuracy": _share(open_[0], open_[1] * _THOUSANDTHS),
            "answerable": _share(answerable, questions),
        }

    def vet(self, counts: Sequence[int], samples: int) -> None:
        if len(counts) != 2 * len(_COUNTS) or min(counts) < 0 or counts[1] + counts[4] != samples:
            raise ValueError("not counts of so many questions")
        for score, questions, answerable in (counts[:3], counts[3:]):
            if answerable > questions or score > answerable * _THOUSANDTHS:
                raise ValueError("more than everything is right")

    def ideal_counts(self, labels: Sequence[int]) -> list[int]:
        questions = sum(labels)
        return [0, 0, 0, questions * _THOUSANDTHS, questions, questions]

    def show_counts(self, counts: Sequence[int]) -> dict[str, Any]:
        groups = {"closed": counts[: len(_COUNTS)], "open": counts[len(_COUNTS) :]}
        return {
            kind: {"score": values[0] / _THOUSANDTHS, "questions": values[1], "answerable": values[2]}
            for kind, values in groups.items()
        }

    def _labels_of(self, split: Split) -> torch.Tensor:
        """Label of each answer, int64 [N]; UNKNOWN for one that is not in the vocabulary."""
        return torch.tensor([self._labels.get(answer, UNKNOWN) for answer in split.answers or ()], dtype=torch.int64)

    def _targets(self, labels: torch.Tensor) -> torch.Tensor:
        """Targets [B, C] of questions with one answer each; all 0 for one that is not in the vocabulary."""
        return soft_targets(labels[:, None], torch.ones(len(labels), 1), len(self.classes))


def answer_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Logits and soft targets [B, C]: a sum over answers, mean over rows."""
    return binary_cross_entropy_with_logits(logits, targets) * logits.shape[1]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
