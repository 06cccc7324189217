"""A learner as tasks evaluate and train with it: outputs for rows of a split, wherever the features come from."""

from __future__ import annotations

import torch

from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.tasks import Evaluation
from fedmedpeft.training.features import FeatureCache, still_towers, worth_keeping


class LearnerPredictor:
    """The :class:`fedmedpeft.tasks.Predictor` of a learner.

    Args:
        learner: is asked.
        cache: frozen features, or tokens of frozen towers, used where the method leaves them as they are.
    """

    def __init__(self, learner: Learner, cache: FeatureCache | None = None) -> None:
        self.learner = learner
        self._still_towers = still_towers(learner)
        self.cache = cache if learner.keeps_features or self._still_towers else None

    @property
    def model(self) -> Learner:
        return self.learner

    def outputs(self, split: Split, rows: torch.Tensor, texts: torch.Tensor | None = None) -> torch.Tensor:
        """The head's outputs for ``rows``, each image with its own text or with that of row ``texts[i]``."""
        outputs: torch.Tensor = self.learner.head(self._features(split, rows, texts))
        return outputs

    def _features(self, split: Split, rows: torch.Tensor, texts: torch.Tensor | None) -> torch.Tensor:
        learner = self.learner
        if self.cache is not None and learner.keeps_features and texts is None:
            return self.cache.features(learner, split, rows)
        if self.cache is not None and self._still_towers and worth_keeping(learner, split):
            return self.cache.fused(learner, split, rows, rows if texts is None else texts)
        images, text, knowledge = split.batch(rows)
        if texts is not None:
            _, text, knowledge = split.batch(texts)
        return learner.features(images, text, knowledge)

    @torch.no_grad()
    def evaluate(self, split: Split) -> Evaluation:
        """Loss and metrics of the learner as it is."""
        self.learner.eval()
        return self.learner.task.evaluate(self, split)
