"""Answers that are written, word by word: generative VQA, and report generation with one question for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.backbones.encoder_decoder import EncoderDecoder, answer_loss
from fedmedpeft.backbones.tokenizer import Tokenizer
from fedmedpeft.components import ConfigError, Options
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.split import Split
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.tasks.task import Evaluation, Head, Predictor, Task, register_task
from fedmedpeft.tasks.text_metrics import (
    METRICS,
    SIZE,
    answer_counts,
    answer_metrics,
    check_answer_counts,
    ideal_answer_counts,
    show_answer_counts,
)
from fedmedpeft.text import Text

_BATCH = 32
_SEED = 0
"""Of what an evaluation draws: the same at every visit, so that its scores can be compared."""


class GenerationOptions(Options):
    """Options of ``generation``."""

    max_length: int = Field(
        10, ge=3, description="tokens of an answer, the first and the last among them; cut to these"
    )
    min_length: int = Field(1, ge=1, description="tokens that an answer has at least, likewise")
    beams: int = Field(3, ge=1, description="answers that are kept at every step of writing")
    smoothing: float = Field(0.1, ge=0, lt=1, description="of the labels, in training")
    evaluate_at_most: int = Field(
        500, ge=1, description="questions of a split that are answered to score it; of more so many are drawn"
    )


class _Model(Protocol):
    """What of a learner is needed here."""

    backbone: Backbone

    def pixels(self, images: torch.Tensor) -> torch.Tensor: ...


@register_task("generation", GenerationOptions)
class Generation(Task):
    """The answer itself is written by a decoder (MISS, Chen et al., 2024, arXiv 2401.05163), not chosen from a list.

    Next-word cross-entropy with smoothed labels, summed over an answer's words, mean over answers. There is no head
    beside the backbone's own, so only the method's tensors are exchanged. An answer is right where it is the given one
    to the letter, case and spaces around signs aside.
    """

    summary = "answers (or reports) written word by word, by a backbone that has a decoder"
    metrics = METRICS
    primary = "exact_match"
    secondary = ("bleu", "rouge_l")
    heading = "exact"
    unit = "questions"
    usage = """\
# uint8 images [B, 3, S, S], one question for each
answers = learner.task.answers(learner, images, ["is there a fracture?"])"""
    reads_text = True
    classes_from = "nothing"
    options: GenerationOptions

    def __init__(self, classes: Sequence[str] = (), options: Options | None = None) -> None:
        super().__init__(classes, options or GenerationOptions())
        if self.options.min_length > self.options.max_length:
            raise ConfigError(
                f"task '{self.name}': min_length={self.options.min_length} is more than "
                f"max_length={self.options.max_length}."
            )

    def make_head(self, backbone: Backbone, init: Initialiser) -> Head:
        """None: words are predicted by the backbone's own."""
        return nn.Identity(), {}

    def check_backbone(self, backbone: Backbone) -> None:
        """Raises ConfigError where the backbone has no decoder, or one for shorter answers."""
        if not isinstance(backbone, EncoderDecoder):
            raise ConfigError(
                f"task='{self.name}' needs a backbone that writes text; '{backbone.record.name}' (a "
                f"{backbone.record.architecture.family}) does not. Set backbone='encoder-decoder(vision=..., "
                "text=...)', or choose another task."
            )
        if self.options.max_length > backbone.longest_answer:
            raise ConfigError(
                f"task='{self.name}(max_length={self.options.max_length})': the decoder of '{backbone.record.name}' "
                f"writes at most {backbone.longest_answer} tokens."
            )

    def check_table(self, table: ImageTable, source: str) -> None:
        super().check_table(table, source)
        if table.answers is None:
            raise ConfigError(
                f"Data source '{source}' has no answers, which task='{self.name}' learns to write. Choose a source of "
                "questions; for reports: vqa(path=..., question='What does the image show?')."
            )

    def check(self, split: Split) -> None:
        super().check(split)
        empty = sum(not answer.strip() for answer in self._right(split))
        if empty:
            public = f"{empty} of the site's training questions have an empty answer."
            raise DataError(f"{public} Task '{self.name}' cannot learn to write these. Leave them out.", public=public)
        if split.knowledge is not None:
            public = f"Task '{self.name}' reads no knowledge beside its questions."
            raise DataError(f"{public} Leave knowledge= out of the configuration.", public=public)

    def loss(
        self,
        predictor: Predictor,
        split: Split,
        rows: torch.Tensor,
        *,
        prior: torch.Tensor | None,
        generator: torch.Generator,
    ) -> torch.Tensor:
        backbone, states, mask = self._read(predictor.model, split, rows)
        return self._losses(backbone, states, mask, [self._right(split)[row] for row in rows.tolist()]).mean()

    def evaluate(self, predictor: Predictor, split: Split) -> Evaluation:
        """Answers to the split's questions, or to as many as the options allow; the loss is of the same ones."""
        if not len(split):
            return Evaluation(0, math.nan, {}, (0,) * SIZE)
        generator = torch.Generator().manual_seed(_SEED)
        drawn = torch.randperm(len(split), generator=generator)[: self.options.evaluate_at_most].sort().values
        right, written, loss = self._right(split), [], 0.0
        for rows in drawn.split(_BATCH):
            backbone, states, mask = self._read(predictor.model, split, rows)
            answers = [right[row] for row in rows.tolist()]
            loss += float(self._losses(backbone, states, mask, answers).double().sum())
            written += self._write(backbone, states, mask)
        kinds = split.answer_types or ("",) * len(split)
        rows_drawn = drawn.tolist()
        counts = answer_counts(
            written, [right[row] for row in rows_drawn], [kinds[row] for row in rows_drawn], len(split)
        )
        return Evaluation(len(split), loss / len(drawn), self.metrics_of_counts(counts), counts)

    @torch.no_grad()
    def answers(self, model: nn.Module, images: torch.Tensor, questions: Sequence[str]) -> list[str]:
        """What a learner answers.

        Args:
            model: a learner of this task, such as ``fedmedpeft.load`` gives.
            images: uint8 [B, 3, S, S].
            questions: one for each.
        """
        backbone = _backbone(model)
        text = _tokenizer(backbone).encode(questions, backbone.text_length)
        return self._write(*self._states(model, images, text))

    def metrics_of_counts(self, counts: Sequence[int]) -> dict[str, float]:
        return answer_metrics(counts)

    def vet(self, counts: Sequence[int], samples: int) -> None:
        check_answer_counts(counts, samples, min(samples, self.options.evaluate_at_most), self.options.max_length)

    def ideal_counts(self, labels: Sequence[int]) -> list[int]:
        asked = sum(labels)
        return ideal_answer_counts(asked, min(asked, self.options.evaluate_at_most), self.options.max_length)

    def show_counts(self, counts: Sequence[int]) -> dict[str, Any]:
        return show_answer_counts(counts)

    def _right(self, split: Split) -> tuple[str, ...]:
        """What should be written for each row. Raises DataError where nobody says."""
        if split.answers is None:
            raise DataError(f"Task '{self.name}' needs questions with answers, and the site's data has none.")
        return split.answers

    def _read(
        self, model: nn.Module, split: Split, rows: torch.Tensor
    ) -> tuple[EncoderDecoder, torch.Tensor, torch.Tensor]:
        """The backbone, the states of the questions [B, S, d], and which of them are words."""
        images, text, _ = split.batch(rows)
        assert text is not None
        return self._states(model, images, text)

    def _states(
        self, model: nn.Module, images: torch.Tensor, text: Text
    ) -> tuple[EncoderDecoder, torch.Tensor, torch.Tensor]:
        pixels = cast(_Model, model).pixels(images)
        backbone, text = _backbone(model), text.to(pixels.device)
        return backbone, backbone.states(pixels, text), text.mask

    def _losses(
        self, backbone: EncoderDecoder, states: torch.Tensor, mask: torch.Tensor, right: Sequence[str]
    ) -> torch.Tensor:
        """Of each answer, [B]."""
        answers = _tokenizer(backbone).encode(right, self.options.max_length).to(states.device)
        return answer_loss(backbone.decode(states, mask, answers), answers, self.options.smoothing)

    def _write(self, backbone: EncoderDecoder, states: torch.Tensor, mask: torch.Tensor) -> list[str]:
        tokenizer, options = _tokenizer(backbone), self.options
        written = backbone.generate(
            states,
            mask,
            end=tokenizer.end,
            beams=options.beams,
            max_length=options.max_length,
            min_length=options.min_length,
        )
        return [tokenizer.text(tokens) for tokens in written[:, 1:].tolist()]


def _backbone(model: nn.Module) -> EncoderDecoder:
    backbone = cast(_Model, model).backbone
    assert isinstance(backbone, EncoderDecoder)  # make_head let no other pass
    return backbone


def _tokenizer(backbone: EncoderDecoder) -> Tokenizer:
    assert backbone.tokenizer is not None  # every encoder-decoder is read with its BERT's
    return backbone.tokenizer
