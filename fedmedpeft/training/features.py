"""What a frozen backbone computes of a site's data, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from fedmedpeft.backbones import Inserted
from fedmedpeft.backbones.meter import Meter
from fedmedpeft.data.split import Split
from fedmedpeft.learner import HEAD, Learner

_BATCH = 128
_LARGEST = 4 * 2**30
"""Bytes of one split's tokens that are worth their memory."""


class FeatureCache:
    """Features per split, for methods that leave them as they are; and the tokens of METER's towers, for methods that
    act behind them.

    One per image, text and piece of knowledge, held in memory beside what they stem from and forgotten with it: they
    are patient data.
    """

    def __init__(self) -> None:
        self._features, self._tokens = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()

    def features(self, learner: Learner, split: Split, rows: torch.Tensor | None = None) -> torch.Tensor:
        """The features [B, d] of ``rows`` (int64 [B]; None: of all), on the learner's device."""
        rows = torch.arange(len(split)) if rows is None else rows
        if split.text is not None:
            of_rows = _kept(self._features, split.text.ids, lambda chunk: learner.features(*split.batch(chunk)))
            return of_rows[rows]
        of_images = _kept(self._features, split.images, lambda chunk: learner.features(split.images[chunk]))
        return of_images[split.image_of[rows]]

    def fused(self, learner: Learner, split: Split, rows: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """The features [B, d] of the images of ``rows`` with the texts and knowledge of the rows ``texts``.

        Towers are asked once; the fusion, which training changes, every time. For learners with :func:`still_towers`.
        """
        backbone, device, text, knowledge = learner.backbone, learner.mean.device, split.text, split.knowledge
        assert isinstance(backbone, Meter)
        assert text is not None
        seen = _kept(self._tokens, split.images, lambda chunk: backbone.vision(learner.pixels(split.images[chunk])))
        words = _kept(self._tokens, text.ids, lambda chunk: backbone.text(text.rows(chunk).to(device)))
        known, mask = None, None
        if knowledge is not None:
            read = knowledge.to(device)
            states = _kept(self._tokens, knowledge.ids, lambda chunk: backbone.encode_knowledge(read.rows(chunk)))
            known, mask = states[texts], knowledge.mask[texts].to(device)
        return backbone.fuse(seen[split.image_of[rows]], words[texts], text.mask[texts].to(device), known, mask)


def still_towers(learner: Learner) -> bool:
    """Whether the backbone is a METER in whose towers nothing is inserted and nothing trained."""
    if not isinstance(learner.backbone, Meter):
        return False
    towers = [place for place in learner.backbone.every_place() if place.part != "fusion"]
    inside = tuple(f"{place.key}." for place in towers)
    trained = any(name.startswith(inside) for name, t in learner.trainables.items() if t.owner != HEAD)
    return not trained and not any(isinstance(place.current, Inserted) for place in towers)


def worth_keeping(learner: Learner, split: Split) -> bool:
    """Whether the towers' tokens for ``split`` take no more memory than they are worth."""
    backbone = learner.backbone
    assert isinstance(backbone, Meter)
    sizes = backbone.architecture
    patches = (sizes.vision.image_size // sizes.vision.patch_size) ** 2 + 1
    numbers = len(split.images) * patches * sizes.vision.hidden_size
    texts = [text for text in (split.text, split.knowledge) if text is not None]
    numbers += sum(text.ids.numel() for text in texts) * sizes.text.hidden_size
    return 4 * numbers <= _LARGEST


@torch.no_grad()
def _kept(
    cache: WeakTensorKeyDictionary, key: torch.Tensor, compute: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """What ``compute`` gives for each item of ``key``, which belongs to one split alone."""
    if key not in cache:
        cache[key] = torch.cat([compute(chunk) for chunk in torch.arange(len(key)).split(_BATCH)])
    kept: torch.Tensor = cache[key]
    return kept
