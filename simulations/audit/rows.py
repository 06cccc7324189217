"""Parts of a split that share its images, so that features computed once serve all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch

from fedmedpeft.data.split import Split

T = TypeVar("T")


def take(split: Split, rows: torch.Tensor) -> Split:
    """The rows int64 [M] of ``split``, in this order; one may come twice. Its images stay, all of them."""
    return replace(
        split,
        labels=split.labels[rows],
        rows=split.rows[rows.numpy()],
        image_of=split.image_of[rows],
        text=split.text.rows(rows) if split.text is not None else None,
        knowledge=split.knowledge.rows(rows) if split.knowledge is not None else None,
        questions=_of(split.questions, rows),
        answers=_of(split.answers, rows),
        answer_types=_of(split.answer_types, rows),
        patient_of=split.patient_of[rows] if split.patient_of is not None else None,
    )


def with_targets_of(split: Split, rows: torch.Tensor) -> Split:
    """``split`` with the labels and answers that its ``rows`` int64 [N] have: what is shown stays, what is said of it
    moves."""
    return replace(
        split,
        labels=split.labels[rows],
        answers=_of(split.answers, rows),
        answer_types=_of(split.answer_types, rows),
    )


def _of(column: tuple[T, ...] | None, rows: torch.Tensor) -> tuple[T, ...] | None:
    return tuple(column[row] for row in rows.tolist()) if column is not None else None
