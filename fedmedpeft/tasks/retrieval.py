"""Image-text retrieval: a score for each pair, learnt by telling an image's own text from others (METER's IRTR)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch.nn.functional import cross_entropy
from torch.utils.weak import WeakTensorKeyDictionary

from fedmedpeft.backbones import Backbone
from fedmedpeft.components import ConfigError, Options
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.split import Split
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.tasks.negatives import Candidates, draw_negatives, find_candidates
from fedmedpeft.tasks.pairs import pair_reader, score_groups, score_table
from fedmedpeft.tasks.ranks import (
    DEPTHS,
    METRICS,
    SIZE,
    check_recall_counts,
    ideal_recall_counts,
    recall_counts,
    recall_metrics,
    show_recall_counts,
)
from fedmedpeft.tasks.task import Evaluation, Head, Predictor, Task, register_task

_SEED = 0
"""Of what an evaluation draws: the same at every visit, so that its scores can be compared."""


class RetrievalOptions(Options):
    """Options of ``retrieval``."""

    negatives: int = Field(15, ge=1, description="texts of other images that each image's own is told from")
    hard: float = Field(0.5, ge=0, le=1, description="share of these that is drawn from the most similar texts")
    at_most: int = Field(
        500,
        ge=max(DEPTHS),
        description="texts of a split that are ranked, with their images; of more so many are drawn",
    )


@register_task("retrieval", RetrievalOptions)
class Retrieval(Task):
    """Which text belongs to an image, and which image to a text (Dou et al., METER, CVPR 2022, arXiv 2111.02387).

    Cross-entropy over an image's own text and ``negatives`` of other images, every pair through the whole model. Scored
    by recall at 1, 5 and 10 among all images and texts of a split.
    """

    summary = "find an image's text and a text's image: recall at 1, 5 and 10, both ways"
    metrics = METRICS
    primary = "mean_recall"
    secondary = ("chance",)
    heading = "recall"
    unit = "texts"
    usage = """\
# uint8 images [B, 3, S, S], and a text for each
text = learner.backbone.tokenizer.encode(["no fracture"], learner.backbone.text_length)
scores = learner(images, text)  # [B, 1], higher where they go together"""
    size_matters = True
    reads_text = True
    per_record = False  # an image is told from texts of other rows
    classes_from = "nothing"
    options: RetrievalOptions

    def __init__(self, classes: Sequence[str] = (), options: Options | None = None) -> None:
        super().__init__(classes, options or RetrievalOptions())
        self._hard = round(self.options.hard * self.options.negatives)
        # Of texts that are patient data: forgotten with them.
        self._candidates = WeakTensorKeyDictionary()

    def make_head(self, backbone: Backbone, init: Initialiser) -> Head:
        """One number for each pair; without a bias, which would move all scores alike and so never learn."""
        head = init.linear("head", backbone.feature_size, 1, std=0.02, bias=False)
        return head, {"head.weight": head.get_parameter("weight")}

    def check_table(self, table: ImageTable, source: str) -> None:
        super().check_table(table, source)
        if table.answers is not None:
            raise ConfigError(
                f"Data source '{source}' has questions with answers, which task='{self.name}' does not learn. Set "
                "task='vqa', or give data with captions."
            )

    def check(self, split: Split) -> None:
        super().check(split)
        assert split.text is not None
        if len(split.image_of.unique()) < 2:
            public = "The site has fewer than two training images, among which nothing can be looked for."
            raise DataError(f"{public} Task '{self.name}' needs texts of other images.", public=public)
        if len(split.text.ids.masked_fill(~split.text.mask, -1).unique(dim=0)) < 2:
            public = "All training texts of the site say the same, so no image can be told by them."
            raise DataError(f"{public} Task '{self.name}' needs texts that differ.", public=public)

    def loss(
        self,
        predictor: Predictor,
        split: Split,
        rows: torch.Tensor,
        *,
        prior: torch.Tensor | None,
        generator: torch.Generator,
    ) -> torch.Tensor:
        texts, present = self._with_negatives(self._candidates_of(split), rows, generator)
        return _loss(score_groups(pair_reader(predictor, split), rows, texts), present)

    def evaluate(self, predictor: Predictor, split: Split) -> Evaluation:
        """Recall among the split's texts and their images, or among as many texts as the options allow.

        The loss is the training loss with negatives from among the same texts.
        """
        if not len(split):
            return Evaluation(0, math.nan, {}, (0,) * SIZE)
        assert split.text is not None
        generator = torch.Generator().manual_seed(_SEED)
        rows = torch.randperm(len(split), generator=generator)[: self.options.at_most].sort().values
        _, image_of = split.image_of[rows].unique(return_inverse=True)
        shown = torch.zeros(int(image_of.max()) + 1, dtype=torch.int64).scatter(0, image_of, rows)
        scores = score_table(pair_reader(predictor, split), shown, rows)
        counts = recall_counts(scores, image_of)
        candidates = find_candidates(image_of, split.text.rows(rows), self._hard)
        texts, present = self._with_negatives(candidates, torch.arange(len(rows)), generator)
        loss = float(_loss(scores.double()[image_of[:, None], texts], present))
        return Evaluation(len(split), loss, self.metrics_of_counts(counts), counts)

    def metrics_of_counts(self, counts: Sequence[int]) -> dict[str, float]:
        return recall_metrics(counts)

    def vet(self, counts: Sequence[int], samples: int) -> None:
        check_recall_counts(counts, min(samples, self.options.at_most))

    def ideal_counts(self, labels: Sequence[int]) -> list[int]:
        return ideal_recall_counts(min(sum(labels), self.options.at_most))

    def show_counts(self, counts: Sequence[int]) -> dict[str, Any]:
        return show_recall_counts(counts)

    def _candidates_of(self, split: Split) -> Candidates:
        """Found at the first batch of a site."""
        assert split.text is not None
        if split.text.ids not in self._candidates:
            self._candidates[split.text.ids] = find_candidates(split.image_of, split.text, self._hard)
        candidates: Candidates = self._candidates[split.text.ids]
        return candidates

    def _with_negatives(
        self, candidates: Candidates, rows: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """For each row its own text and then negatives, int64 [B, 1 + K], and which of these there are, bool."""
        negatives, present = draw_negatives(candidates, rows, self.options.negatives, self._hard, generator)
        own = torch.ones(len(rows), 1, dtype=torch.bool)
        return torch.cat([rows[:, None], negatives], dim=1), torch.cat([own, present], dim=1)


def _loss(scores: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of scores [B, 1 + K] whose first column is right, among those that are ``present``."""
    scores = scores.masked_fill(~present.to(scores.device), -math.inf)
    return cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64, device=scores.device))
