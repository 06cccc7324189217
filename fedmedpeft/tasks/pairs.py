"""Scores of images paired with texts that need not be their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, cast

import torch
from torch import nn

from fedmedpeft.backbones.meter import Meter
from fedmedpeft.data.split import Split
from fedmedpeft.tasks.task import Predictor

Read = tuple[torch.Tensor, ...]
"""What was read of some images or texts: tensors with one item for each."""

_BATCH, _IMAGES = 128, 16


class PairReader(ABC):
    """Reads images and texts of a split once each, however many pairs they are in."""

    @abstractmethod
    def images(self, rows: torch.Tensor) -> Read:
        """The images of ``rows``, int64 [B]."""

    @abstractmethod
    def texts(self, rows: torch.Tensor) -> Read:
        """The texts of ``rows``, int64 [B], and what is known about each."""

    @abstractmethod
    def scores(self, images: Read, texts: Read) -> torch.Tensor:
        """Scores [P] of P images with as many texts."""


def pair_reader(predictor: Predictor, split: Split) -> PairReader:
    """The quickest that gives what the whole model gives."""
    backbone = getattr(predictor.model, "backbone", None)
    if isinstance(backbone, Meter):
        return _Towers(cast(_Learner, predictor.model), backbone, split)
    return _WholeModel(predictor, split)


def score_groups(reader: PairReader, rows: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Scores [B, M] of the images of ``rows`` [B], each with the M texts of its row of ``texts`` [B, M]."""
    distinct, places = texts.unique(return_inverse=True)
    images = _picked(reader.images(rows), torch.arange(len(rows)).repeat_interleave(texts.shape[1]))
    return reader.scores(images, _picked(reader.texts(distinct), places.flatten())).view(texts.shape)


def score_table(reader: PairReader, rows: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Scores [I, T] of the images of ``rows`` [I] with the texts of the rows ``texts`` [T], on the CPU."""
    parts = [reader.texts(chunk) for chunk in texts.split(_BATCH)]
    words = tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return torch.cat([_score_all(reader, reader.images(chunk), words) for chunk in rows.split(_IMAGES)])


def _score_all(reader: PairReader, images: Read, texts: Read) -> torch.Tensor:
    shape = len(images[0]), len(texts[0])
    pairs = torch.cartesian_prod(*(torch.arange(size) for size in shape)).split(_BATCH)
    scores = [reader.scores(_picked(images, i), _picked(texts, t)).cpu() for i, t in (p.unbind(1) for p in pairs)]
    return torch.cat(scores).view(shape)


def _picked(read: Read, places: torch.Tensor) -> Read:
    return tuple(tensor[places.to(tensor.device)] for tensor in read)


class _WholeModel(PairReader):
    """Every pair through all of the model."""

    def __init__(self, predictor: Predictor, split: Split) -> None:
        self._predictor, self._split = predictor, split

    def images(self, rows: torch.Tensor) -> Read:
        return (rows,)

    def texts(self, rows: torch.Tensor) -> Read:
        return (rows,)

    def scores(self, images: Read, texts: Read) -> torch.Tensor:
        return self._predictor.outputs(self._split, images[0], texts[0]).squeeze(1)


class _Learner(Protocol):
    """What is needed of a learner beside its backbone."""

    head: nn.Module

    def pixels(self, images: torch.Tensor) -> torch.Tensor: ...


class _Towers(PairReader):
    """Each image and each text through its tower once, and every pair through the fusion and the head."""

    def __init__(self, learner: _Learner, backbone: Meter, split: Split) -> None:
        self._learner, self._backbone, self._split = learner, backbone, split

    def images(self, rows: torch.Tensor) -> Read:
        images, _, _ = self._split.batch(rows)
        return (self._backbone.vision(self._learner.pixels(images)),)

    def texts(self, rows: torch.Tensor) -> Read:
        _, text, knowledge = self._split.batch(rows)
        assert text is not None
        device = next(self._backbone.fusion.parameters()).device
        text = text.to(device)
        states = self._backbone.text(text)
        if knowledge is None:
            return states, text.mask
        knowledge = knowledge.to(device)
        return states, text.mask, self._backbone.encode_knowledge(knowledge), knowledge.mask

    def scores(self, images: Read, texts: Read) -> torch.Tensor:
        outputs: torch.Tensor = self._learner.head(self._backbone.fuse(*images, *texts))
        return outputs.squeeze(1)
