"""What is computed once must be what is computed every time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
import torch

from fedmedpeft.backbones import load_backbone
from fedmedpeft.backbones.meter import Meter
from fedmedpeft.backbones.text_encoder import TextEncoder
from fedmedpeft.config import RunConfig
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.tasks import build_task
from fedmedpeft.training import FeatureCache, LearnerPredictor, LocalTrainer, features
from tests.every_method import texts

_ROWS = torch.tensor([5, 0, 3])


def _learner(meter: str, method: str) -> Learner:
    learner = Learner(load_backbone(meter), method, build_task("vqa", ("yes", "no")), 0)
    for name, trainable in learner.trainables.items():  # away from where methods start, which may be the frozen model
        generator = torch.Generator().manual_seed(len(name))
        trainable.parameter.data += 0.05 * torch.randn(trainable.parameter.shape, generator=generator)
    return learner


def _split(learner: Learner) -> Split:
    """Seven questions about three images, with knowledge."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=generator)
    (text,), (knowledge,) = texts(learner, 7), texts(learner, 7)
    return Split(
        images,
        torch.zeros(7, dtype=torch.int64),
        np.arange(7),
        torch.tensor([0, 0, 1, 2, 2, 1, 0]),
        text=text,
        knowledge=type(knowledge)(knowledge.ids.flip(1), knowledge.mask.flip(1)),
        answers=("yes", "no") * 3 + ("yes",),
    )


@contextmanager
def _counted() -> Iterator[list[int]]:
    """How many texts the text tower reads, call by call."""
    seen: list[int] = []
    forward = TextEncoder.forward

    def spy(self: TextEncoder, text, *rest):  # type: ignore[no-untyped-def]
        seen.append(len(text.ids))
        return forward(self, text, *rest)

    with patch.object(TextEncoder, "forward", spy):
        yield seen


@pytest.mark.parametrize("method", ["head", "sadapter", "lora(where=fusion)", "layernorm(where=fusion)"])
@pytest.mark.parametrize("own_texts", [True, False])
@torch.no_grad()
def test_outputs_are_those_without_a_cache(tiny_meter: str, method: str, own_texts: bool) -> None:
    learner = _learner(tiny_meter, method).eval()
    split, chosen = _split(learner), None if own_texts else torch.tensor([1, 6, 2])
    plain, cached = LearnerPredictor(learner), LearnerPredictor(learner, FeatureCache())
    expected = plain.outputs(split, _ROWS, chosen)
    torch.testing.assert_close(cached.outputs(split, _ROWS, chosen), expected, atol=1e-5, rtol=1e-4)
    with _counted() as read:
        torch.testing.assert_close(cached.outputs(split, _ROWS, chosen), expected, atol=1e-5, rtol=1e-4)
    assert not read


@pytest.mark.parametrize("method", ["lora", "layernorm", "lora(where='fusion,text')", "vpt-deep(where=vision)", "kpl"])
def test_towers_that_a_method_changes_are_asked_every_time(tiny_meter: str, method: str) -> None:
    learner = _learner(tiny_meter, method)
    assert isinstance(learner.backbone, Meter)
    assert LearnerPredictor(learner, FeatureCache()).cache is None


def test_training_on_kept_tokens_is_training_on_images(tiny_meter: str) -> None:
    def trained(cache: FeatureCache | None) -> dict[str, np.ndarray]:
        learner = _learner(tiny_meter, "lora(where=fusion)")
        config = RunConfig.from_mapping({"rounds": 1, "local-steps": 4, "batch-size": 3})
        LocalTrainer(learner, config, cache=cache).train(_split(learner), first_step=0, steps=4, seed=1)
        return learner.export(learner.manifest()).tensors()

    one, other = trained(FeatureCache()), trained(None)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-4)


@torch.no_grad()
def test_what_would_fill_the_memory_is_computed_every_time(tiny_meter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_LARGEST", 10)
    learner = _learner(tiny_meter, "sadapter")
    predictor, split = LearnerPredictor(learner, FeatureCache()), _split(learner)
    with _counted() as read:
        for _ in range(2):
            predictor.outputs(split, _ROWS)
    assert read == [3, 3, 3, 3]  # knowledge and text, twice


@torch.no_grad()
def test_what_was_kept_goes_with_the_data(tiny_meter: str) -> None:
    learner, cache = _learner(tiny_meter, "sadapter"), FeatureCache()
    split = _split(learner)
    LearnerPredictor(learner, cache).outputs(split, _ROWS)
    assert len(cache._tokens) == 3
    del split
    gc.collect()
    assert len(cache._tokens) == 0
