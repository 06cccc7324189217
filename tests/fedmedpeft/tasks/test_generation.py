"""Answers that are written: loss, scores and refusals. The model here is untrained."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmedpeft.backbones import BackboneRecord, load_backbone, skeleton
from fedmedpeft.backbones.encoder_decoder import EncoderDecoder
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner, learner_skeleton
from fedmedpeft.methods import METHODS
from fedmedpeft.tasks import build_task
from fedmedpeft.tasks.generation import Generation, GenerationOptions
from fedmedpeft.tasks.text_metrics import METRICS, SIZE
from fedmedpeft.training.local import LocalTrainer

QUESTIONS = ("is there a mass", "what is this", "is there a mass", "what is this")
IMAGES = (0, 0, 1, 1)
ANSWERS = ("yes", "left lung", "no", "in the liver")
KINDS = ("closed", "open", "closed", "open")


@pytest.fixture(scope="module")
def encoder_decoder(tiny_backbone: Path, tiny_text_tower: Path) -> str:
    return f"encoder-decoder(vision='{tiny_backbone}', text='{tiny_text_tower}', text_length=16)"


def learner_of(name: str, task: str, method: str = "full(where=decoder)") -> Learner:
    return Learner(load_backbone(name), method, build_task(task), seed=0)


def split_of(learner: Learner) -> Split:
    backbone = learner.backbone
    assert isinstance(backbone, EncoderDecoder)
    assert backbone.tokenizer is not None
    images = torch.stack([torch.full((3, 32, 32), level, dtype=torch.uint8) for level in (40, 220)])
    return Split(
        images,
        torch.zeros(len(QUESTIONS), dtype=torch.int64),
        np.arange(len(QUESTIONS)),
        torch.tensor(IMAGES),
        text=backbone.tokenizer.encode(QUESTIONS, backbone.text_length),
        questions=QUESTIONS,
        answers=ANSWERS,
        answer_types=KINDS,
    )


def trainer_of(learner: Learner, **changes: object) -> LocalTrainer:
    config = RunConfig.from_mapping(
        {"batch-size": 4, "learning-rate": 3e-3, "rounds": 10, "local-steps": 12, **changes}
    )
    return LocalTrainer(learner, config)


@pytest.fixture(scope="module")
def trained(encoder_decoder: str) -> tuple[Learner, Split]:
    """One that has learnt its four answers by heart; each needs both the image and the question."""
    learner = learner_of(encoder_decoder, "generation(smoothing=0.0)", "full(where='text,decoder')")
    split = split_of(learner)
    trainer_of(learner).train(split, first_step=0, steps=120, seed=0)
    learner.eval()
    return learner, split


def test_it_learns_to_write(trained: tuple[Learner, Split]) -> None:
    learner, split = trained
    found = trainer_of(learner).evaluate(split)
    assert found.metrics == pytest.approx(dict.fromkeys(METRICS, 1.0))
    assert found.samples == len(split)
    assert isinstance(learner.task, Generation)
    assert learner.task.answers(learner, split.images[split.image_of], QUESTIONS) == list(ANSWERS)


def test_the_loss_is_the_mean_over_answers(encoder_decoder: str) -> None:
    learner = learner_of(encoder_decoder, "generation")
    trainer, split = trainer_of(learner), split_of(learner)

    def loss(rows: list[int]) -> float:
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            return float(learner.task.loss(trainer, split, torch.tensor(rows), prior=None, generator=generator))

    alone = [loss([row]) for row in range(4)]
    assert loss([0, 1, 2, 3]) == pytest.approx(np.mean(alone), rel=1e-5)
    assert trainer.evaluate(split).loss == pytest.approx(np.mean(alone), rel=1e-5)
    assert alone[3] > alone[0]  # a sum over words: three of them cost more than one


def test_smoothing_is_of_the_loss(encoder_decoder: str) -> None:
    losses = []
    for smoothing in (0.0, 0.1):
        learner = learner_of(encoder_decoder, f"generation(smoothing={smoothing})")
        losses.append(trainer_of(learner).evaluate(split_of(learner)).loss)
    assert losses[0] != losses[1]


def test_an_empty_split_scores_nothing(encoder_decoder: str) -> None:
    learner = learner_of(encoder_decoder, "generation")
    whole = split_of(learner)
    assert whole.text is not None
    empty = replace(
        whole, labels=whole.labels[:0], rows=whole.rows[:0], image_of=whole.image_of[:0],
        text=whole.text.rows(torch.arange(0)), questions=(), answers=(), answer_types=(),
    )  # fmt: skip
    found = trainer_of(learner).evaluate(empty)
    assert (found.samples, found.metrics, found.counts) == (0, {}, (0,) * SIZE)
    assert math.isnan(found.loss)


def test_some_of_many_questions_are_answered_and_it_says_so(encoder_decoder: str) -> None:
    learner = learner_of(encoder_decoder, "generation(evaluate_at_most=3)")
    split = split_of(learner)
    one, again = (trainer_of(learner).evaluate(split) for _ in range(2))
    assert one == again
    assert one.metrics["evaluated"] == 0.75
    learner.task.vet(one.counts, len(split))
    with pytest.raises(ValueError, match="so many"):
        build_task("generation").vet(one.counts, len(split))
    shown = learner.task.show_counts(one.counts)
    assert (shown["asked"], shown["answered closed"] + shown["answered open"]) == (4, 3)


def test_ideal_counts_pass_their_own_check() -> None:
    task = build_task("generation(evaluate_at_most=50)")
    counts = task.ideal_counts([40, 60])
    task.vet(counts, 100)
    assert task.metrics_of_counts(counts)["exact_match"] == 1


def test_nothing_but_the_method_is_trained(encoder_decoder: str) -> None:
    learner = learner_of(encoder_decoder, "generation", "lora(where=decoder)")
    assert all(name.startswith("decoder.blocks.") for name in learner.trainables)


def test_without_a_head_there_must_be_a_method(encoder_decoder: str) -> None:
    with pytest.raises(ConfigError, match="trains a head alone"):
        learner_of(encoder_decoder, "generation", "head")


_UNSUITED = ("batchnorm", "kpl", "sadapter", "textual-prompts", "tsa")
_SUITED = tuple(name for name in METHODS.names() if name not in (*_UNSUITED, "head") and not name.startswith("peft:"))


@pytest.mark.parametrize("method", _UNSUITED)
def test_a_method_without_its_places_is_refused(method: str, encoder_decoder: str) -> None:
    with pytest.raises(ConfigError, match="does not have"):
        learner_of(encoder_decoder, "generation", method)


@pytest.mark.parametrize("method", _SUITED)
def test_what_a_method_trains_gets_a_gradient(method: str, encoder_decoder: str) -> None:
    """After one step, since some start where half of what they train gets none."""
    learner = learner_of(encoder_decoder, "generation", method)
    trainer, split = trainer_of(learner), split_of(learner)
    trainer.train(split, first_step=0, steps=1, seed=0)
    generator = torch.Generator().manual_seed(0)
    trainer.optimiser.zero_grad()
    learner.task.loss(trainer, split, torch.arange(4), prior=None, generator=generator).backward()
    idle = [
        key for key, one in learner.trainables.items() if one.parameter.grad is None or not one.parameter.grad.any()
    ]
    assert not idle
    assert len(trainer.evaluate(split).counts) == SIZE


@pytest.mark.parametrize("task", ["classification", "vqa", "retrieval"])
def test_an_encoder_decoder_is_for_nothing_else(task: str, encoder_decoder: str) -> None:
    with pytest.raises(ConfigError, match="task='generation'"):
        Learner(load_backbone(encoder_decoder), "layernorm", build_task(task, ("a", "b")), seed=0)


def test_it_needs_a_backbone_that_writes(tiny_record: BackboneRecord, tiny_meter: str) -> None:
    for record in (tiny_record, load_backbone(tiny_meter).record):
        with pytest.raises(ConfigError, match="writes text.*encoder-decoder"):
            learner_skeleton(record, "layernorm", (), "generation")


def test_longer_answers_than_the_decoder_writes(encoder_decoder: str) -> None:
    record = load_backbone(encoder_decoder).record
    learner_skeleton(record, "layernorm", (), "generation(max_length=32)")
    with pytest.raises(ConfigError, match="at most 32 tokens"):
        learner_skeleton(record, "layernorm", (), "generation(max_length=33)")
    with pytest.raises(ConfigError, match="min_length=12 is more than"):
        build_task("generation(min_length=12)")


def test_data_it_cannot_learn_from(encoder_decoder: str) -> None:
    learner = learner_of(encoder_decoder, "generation")
    split, task = split_of(learner), learner.task
    task.check(split)
    with pytest.raises(DataError, match="empty answer"):
        task.check(replace(split, answers=("yes", " ", "no", "no")))
    with pytest.raises(DataError, match="no knowledge"):
        task.check(replace(split, knowledge=split.text))
    with pytest.raises(DataError, match="with answers"):
        task.check(replace(split, answers=None))


def test_captions_are_not_answers(tiny_record: BackboneRecord) -> None:
    captions = ImageTable(
        keys=("a", "b"), labels=np.zeros(2, dtype=np.int64), classes=("caption",), texts=("a lung", "a heart")
    )
    with pytest.raises(ConfigError, match="has no answers"):
        build_task("generation").check_table(captions, "manifest")
    assert skeleton(tiny_record).text_length == 0
    assert GenerationOptions().max_length == 10
