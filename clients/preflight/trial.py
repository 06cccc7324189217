"""What one training step would hold in memory, measured on a forward pass of one batch. Nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fedmedpeft.config import RunConfig
from fedmedpeft.data import Source
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.privacy.options import site_privacy
from fedmedpeft.tasks.reading import text_reader
from fedmedpeft.training.predictor import LearnerPredictor

_COPIES = 4
"""A parameter that is trained, its gradient, and AdamW's two moments."""
_SPARE = 1.3
"""For what a backward pass holds besides, and what allocators waste."""


@dataclass(frozen=True)
class Trial:
    """Bytes that a step holds.

    Attributes:
        rows: of the batch.
        model_bytes: weights and buffers, frozen or not.
        training_bytes: all of a step: the model, what gradients need of the forward pass, and the optimiser's.
    """

    rows: int
    model_bytes: int
    training_bytes: int


def try_batch(learner: Learner, config: RunConfig, source: Source, rows: np.ndarray) -> Trial:
    """Forward one batch of blank images with the site's labels and texts, and weigh what a backward pass would need.

    Args:
        rows: the training rows of the source's table.

    Raises:
        torch.OutOfMemoryError: it does not fit.
        ConfigError, DataError: as reading texts does.
    """
    dp = site_privacy(config, "").options
    batch = blank_split(learner, config, source, rows[: config.batch_size])
    saved: dict[int, int] = {}
    known = {p.untyped_storage().data_ptr() for p in (*learner.parameters(), *learner.buffers())}

    def weigh(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    learner.train()
    generator = torch.Generator().manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
        # The loss is kept until all is weighed: what it needs would be freed, and its addresses used again.
        loss = learner.task.loss(
            LearnerPredictor(learner), batch, torch.arange(len(batch)), prior=None, generator=generator
        )
    learner.eval()
    del loss
    model = sum(p.nbytes for p in (*learner.parameters(), *learner.buffers()))
    trained = sum(trainable.parameter.nbytes for trainable in learner.trainables.values())
    # With privacy every record in memory has gradients of its own.
    records = min(len(batch), dp.physical_batch) if dp is not None else 0
    step = sum(saved.values()) + (_COPIES - 1 + records) * trained
    return Trial(len(batch), model, model + int(_SPARE * step))


def blank_split(learner: Learner, config: RunConfig, source: Source, rows: np.ndarray) -> Split:
    """``rows`` with their labels and texts, and black images in place of theirs: what they show costs no memory."""
    table, size = source.table, learner.backbone.record.preprocessing.image_size
    chosen = rows.tolist()
    reader = text_reader(config, learner.backbone)
    words = {name: _of(getattr(table, name), chosen) for name in ("texts", "answers", "answer_types")}
    text, knowledge = reader.read(words["texts"]) if reader and words["texts"] else (None, None)
    return Split(
        torch.zeros(len(rows), 3, size, size, dtype=torch.uint8),
        torch.from_numpy(table.labels[rows]),
        rows,
        text=text,
        knowledge=knowledge,
        questions=words["texts"],
        answers=words["answers"],
        answer_types=words["answer_types"],
    )


def _of(column: tuple[str, ...] | None, rows: list[int]) -> tuple[str, ...] | None:
    return tuple(column[row] for row in rows) if column is not None else None
