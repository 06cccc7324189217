"""One split of one site as tensors: images once each, and rows (images, questions, captions) that point to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch.nn.functional import pad

from fedmedpeft.data.errors import DataError
from fedmedpeft.text import Text

T = TypeVar("T")

_EACH_ITS_OWN = torch.zeros(0, dtype=torch.int64)


@dataclass
class Split:
    """N rows about U images; may be empty. Without texts every row is an image of its own and U = N.

    Attributes:
        images: uint8 [U, 3, S, S].
        labels: int64 [N]; of questions the stratum.
        rows: int64 [N], rows of the source's table.
        image_of: int64 [N], index into ``images``; left out: 0, 1, 2, ...
        text: tokens of the questions or captions [N], where there are any and someone asked for them.
        knowledge: tokens of what is known about each text [N], likewise.
        questions: the texts themselves, N of them. answers: what is right for each, normalised.
        answer_types: ``closed`` or ``open`` for each.
        patient_of: int64 [N], a number for the patient of each row that means nothing elsewhere; None where the data
            does not say who its patients are.
    """

    images: torch.Tensor
    labels: torch.Tensor
    rows: np.ndarray
    image_of: torch.Tensor = field(default_factory=lambda: _EACH_ITS_OWN)
    text: Text | None = None
    knowledge: Text | None = None
    questions: tuple[str, ...] | None = None
    answers: tuple[str, ...] | None = None
    answer_types: tuple[str, ...] | None = None
    patient_of: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.image_of is _EACH_ITS_OWN:
            self.image_of = torch.arange(len(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, Text | None, Text | None]:
        """What a learner reads of ``rows`` (int64 [M], places in this split): images [M, 3, S, S], text, knowledge."""
        text = self.text.rows(rows) if self.text is not None else None
        knowledge = self.knowledge.rows(rows) if self.knowledge is not None else None
        return self.images[self.image_of[rows]], text, knowledge


def join(splits: Sequence[Split]) -> Split:
    """All rows of ``splits`` in order, each still about its image.

    Raises:
        DataError: some have texts, knowledge, answers, answer types or patients and others have not.
    """
    offsets = np.cumsum([0] + [len(split.images) for split in splits])
    return Split(
        torch.cat([split.images for split in splits]),
        torch.cat([split.labels for split in splits]),
        np.concatenate([split.rows for split in splits]),
        torch.cat([split.image_of + int(offset) for split, offset in zip(splits, offsets, strict=False)]),
        text=_join_texts([split.text for split in splits]),
        knowledge=_join_texts([split.knowledge for split in splits]),
        questions=_join_words([split.questions for split in splits]),
        answers=_join_words([split.answers for split in splits]),
        answer_types=_join_words([split.answer_types for split in splits]),
        patient_of=_join_patients([split.patient_of for split in splits]),
    )


def _join_texts(texts: Sequence[Text | None]) -> Text | None:
    """As long as the longest; what is added is masked, so which token it is makes no difference."""
    present = _all_or_none(texts)
    if not present:
        return None
    longest = max(text.ids.shape[1] for text in present)
    padded = [Text(*(pad(part, (0, longest - part.shape[1])) for part in text)) for text in present]
    return Text(torch.cat([text.ids for text in padded]), torch.cat([text.mask for text in padded]))


def _join_words(columns: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    present = _all_or_none(columns)
    return tuple(word for column in present for word in column) if present else None


def _join_patients(splits: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Patients of different splits are different ones, whatever their numbers."""
    present = _all_or_none(splits)
    offsets = np.cumsum([0] + [int(split.max()) + 1 if len(split) else 0 for split in present])
    moved = [split + int(offset) for split, offset in zip(present, offsets, strict=False)]
    return torch.cat(moved) if moved else None


def _all_or_none(parts: Sequence[T | None]) -> list[T]:
    present = [part for part in parts if part is not None]
    if present and len(present) != len(parts):
        raise DataError(
            "Some sites have texts, answers or patients and others not: they cannot be pooled. Load them alike."
        )
    return present
