"""Features of the frozen backbone, computed once per image and kept."""

from __future__ import annotations

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from fedmedpeft.data.site_data import Split
from fedmedpeft.learner import Learner

_BATCH = 128


class FeatureCache:
    """Class-token features [N, d] per split, for methods that leave them as they are.

    Held in memory beside the images they stem from and forgotten with them: features are patient data.
    """

    def __init__(self) -> None:
        self._features = WeakTensorKeyDictionary()

    @torch.no_grad()
    def features(self, learner: Learner, split: Split) -> torch.Tensor:
        """The features of every image of ``split``, on the learner's device."""
        if split.images not in self._features:
            learner.eval()
            chunks = [learner.features(chunk) for chunk in split.images.split(_BATCH)]
            width = learner.backbone.feature_size
            self._features[split.images] = torch.cat(chunks) if chunks else torch.zeros(0, width)
        features: torch.Tensor = self._features[split.images]
        return features
