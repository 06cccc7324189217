"""Faults that would make a training less private than it says, or another than was meant, stop it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedmedpeft.privacy.randomness import SeededRandomness
from fedmedpeft.privacy.units import units_of
from fedmedpeft.training import self_check
from fedmedpeft.training.private import DpSgd, PrivacyError, PrivateTrainer
from tests.private_sites import config_of, learner_of, split_of

GradSampleHooks = pytest.importorskip("opacus.grad_sample.grad_sample_module").GradSampleHooks


def _trainer(backbone: Path | str, method: str = "lora+layernorm") -> PrivateTrainer:
    dp = DpSgd(1.0, 1.0, randomness=SeededRandomness(0))
    return PrivateTrainer(learner_of(str(backbone), method, double=False), config_of(), dp=dp)


def _train(trainer: PrivateTrainer, steps: int = 2) -> None:
    trainer.train(split_of(trainer.learner), first_step=0, steps=steps, seed=0)


def _spoilt(change: Callable[[dict[Any, torch.Tensor]], Any]) -> Callable[..., Any]:
    """Opacus' gradients of a linear layer after ``change``."""
    right = GradSampleHooks.GRAD_SAMPLERS[nn.Linear]
    return lambda *given: change(right(*given))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: {p: 1.05 * each for p, each in found.items()},
        lambda found: {p: each.flip(0) for p, each in found.items()},
        lambda found: {p: each.mean(0, keepdim=True).expand_as(each) for p, each in found.items()},
        lambda found: {p: torch.full_like(each, math.nan) for p, each in found.items()},
        lambda found: {p: each[:1] for p, each in found.items()},
    ],
    ids=["scaled", "of another record", "averaged", "nan", "too few"],
)
def test_wrong_gradients(tiny_backbone: Path, change: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trainer(tiny_backbone)
    before = trainer.learner.export(trainer.learner.manifest()).hash()
    monkeypatch.setitem(GradSampleHooks.GRAD_SAMPLERS, nn.Linear, _spoilt(change))
    with pytest.raises(PrivacyError, match=r"'(blocks|head)\.\S+': nothing was trained"):
        _train(trainer)
    assert trainer.learner.export(trainer.learner.manifest()).hash() == before


def test_a_gradient_that_is_silently_missing(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trainer(tiny_backbone)
    bias = trainer.learner.trainables["head.bias"].parameter
    monkeypatch.setitem(
        GradSampleHooks.GRAD_SAMPLERS,
        nn.Linear,
        _spoilt(lambda found: {p: each for p, each in found.items() if p is not bias}),
    )
    with pytest.raises((PrivacyError, AttributeError), match=r"head\.bias|_current_grad_sample"):
        _train(trainer)


def test_records_that_depend_on_each_other(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that says it has losses of single records, and has not."""
    trainer = _trainer(tiny_backbone)
    plain = trainer.learner.task.loss_of
    monkeypatch.setattr(
        trainer.learner.task,
        "loss_of",
        lambda outputs, *given: plain(outputs - outputs.mean(0) / 2, *given),
    )
    with pytest.raises(PrivacyError, match="nothing was trained"):
        _train(trainer)


def test_a_gradient_that_disappears_later(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trainer(tiny_backbone, "lora")
    _train(trainer)
    down = trainer.learner.get_submodule("backbone").places("q")[0].current  # type: ignore[operator]
    monkeypatch.setattr(down, "forward", lambda x: down.base(x))
    with pytest.raises(PrivacyError, match="reach other parameters"):
        _train(trainer)


def test_an_optimiser_of_other_parameters(tiny_backbone: Path) -> None:
    """One that was made before the learner's parameters were replaced moves nothing (opacus issue 820)."""
    trainer = _trainer(tiny_backbone)
    for group in trainer.optimiser.param_groups:
        group["params"] = [nn.Parameter(parameter.detach().clone()) for parameter in group["params"]]
    with pytest.raises(PrivacyError, match="did not move as computed"):
        _train(trainer)


def test_an_optimiser_that_lacks_one(tiny_backbone: Path) -> None:
    trainer = _trainer(tiny_backbone)
    trainer.optimiser.param_groups[-1]["params"].pop()
    with pytest.raises(PrivacyError, match="did not move as computed"):
        _train(trainer)


def test_a_frozen_tensor_that_moves(tiny_backbone: Path) -> None:
    trainer = _trainer(tiny_backbone)
    frozen = next(p for p in trainer.learner.parameters() if not p.requires_grad)

    def change(_: object) -> None:
        with torch.no_grad():
            frozen.mul_(1.0)

    trainer._pull = change  # type: ignore[method-assign, assignment]
    with pytest.raises(PrivacyError, match="what is frozen"):
        _train(trainer)


def test_it_is_done_once_for_each_set_of_what_trains(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    plain = self_check._compare
    monkeypatch.setattr(self_check, "_compare", lambda *given: done.append(given[-1]) or plain(*given))
    trainer = _trainer(tiny_backbone, "lora(factors='rolora')")
    for turns in (["lora_B"], ["lora_A"], ["lora_B"]):
        with trainer.learner.taking_turns(turns):
            _train(PrivateTrainer(trainer.learner, config_of(), dp=trainer.dp))
    assert [sorted({name.rpartition(".")[2] for name in names}) for names in done] == [
        ["bias", "lora_B", "weight"],
        ["bias", "lora_A", "weight"],
    ]


def test_the_check_itself_changes_nothing(tiny_backbone: Path) -> None:
    trainer = _trainer(tiny_backbone)
    before = trainer.learner.export(trainer.learner.manifest()).hash()
    split = split_of(trainer.learner)
    names = self_check.reached_trainables(trainer, trainer.learner, split, units_of(split, "patient"))
    assert set(names) == set(trainer.learner.trainables)
    assert trainer.learner.export(trainer.learner.manifest()).hash() == before
    assert all(p.grad is None for p in trainer.learner.parameters())
