"""Private steps: noise, empty batches, what they depend on, and that they leave nothing behind."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedmedpeft.backbones import load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.privacy.randomness import SeededRandomness
from fedmedpeft.tasks import Classification
from fedmedpeft.training import FeatureCache, LocalTrainer
from fedmedpeft.training.private import DpSgd, PrivateTrainer
from tests.private_sites import Recorded, config_of, difference, learner_of, norm, split_of

_DP = DpSgd(1.5, 0.5, 0.4, physical_batch=4)


def _dp(seed: int = 0, **changes: Any) -> DpSgd:
    return replace(_DP, randomness=SeededRandomness(seed), **changes)


def _recorded(backbone: Path, method: str = "lora+layernorm", steps: int = 2, **changes: Any) -> Recorded:
    trainer = Recorded(learner_of(str(backbone), method), config_of(), dp=_dp(**changes))
    trainer.train(split_of(trainer.learner), first_step=0, steps=steps, seed=1)
    return trainer


def _state(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: t.parameter.detach().clone() for name, t in learner.trainables.items()}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_noise_has_the_clip_times_the_multiplier_in_every_coordinate(tiny_backbone: Path) -> None:
    """Of the sum; bounds are of 6 standard errors."""
    noisy, plain = (_recorded(tiny_backbone, "full", 1, noise_multiplier=z, sample_rate=1.0) for z in (1.5, 0.0))
    noise = {name: noisy.sums[0][name] - plain.sums[0][name] for name in plain.sums[0]}
    count = sum(each.numel() for each in noise.values())
    assert count > 5000
    assert norm(noise) / math.sqrt(count) == pytest.approx(1.5 * 0.4, rel=6 / math.sqrt(2 * count))
    for each in noise.values():
        expected = pytest.approx(1.5 * 0.4, rel=6 / math.sqrt(2 * each.numel()) + 6 / each.numel())
        assert norm({"": each}) / math.sqrt(each.numel()) == expected or each.numel() < 40


def test_a_step_is_divided_by_the_expected_number_of_units(tiny_backbone: Path) -> None:
    """Never by how many there happen to be, which is private."""

    class Kept(PrivateTrainer):
        def _move(self, first: bool) -> None:
            self.kept = {name: t.parameter.grad.clone() for name, t in self.learner.trainables.items()}  # type: ignore[union-attr]

    trainers = []
    for rate in (0.5, 0.25):
        trainer = Kept(learner_of(str(tiny_backbone), "head"), config_of(), dp=_dp(sample_rate=rate))
        randomness = trainer.dp.randomness
        randomness.uniform = lambda count: torch.zeros(count)  # type: ignore[method-assign]
        trainer.train(split_of(trainer.learner), first_step=0, steps=1, seed=0)
        trainers.append(trainer)
    for name, half in trainers[0].kept.items():
        assert torch.allclose(trainers[1].kept[name], 2 * half)


def test_an_empty_batch_is_a_step_of_noise_without_a_forward_pass(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _recorded(tiny_backbone, "lora", 1, sample_rate=1e-15, noise_multiplier=2.0)
    before = _state(trainer.learner)

    def refuse(*_: object, **__: object) -> torch.Tensor:
        raise AssertionError("nothing is there to be computed")

    monkeypatch.setattr(trainer.learner.task, "loss", refuse)
    result = trainer.train(split_of(trainer.learner), first_step=1, steps=5, seed=1)
    assert result.steps == 5
    assert len(trainer.sums) == 6
    after = _state(trainer.learner)
    assert not any(torch.equal(before[name], after[name]) for name in before)
    stds = [norm(noise) / math.sqrt(sum(each.numel() for each in noise.values())) for noise in trainer.sums]
    assert stds == pytest.approx([0.8] * 6, rel=0.15)
    assert len({float(noise["head.bias"][0]) for noise in trainer.sums}) == 6


def test_a_record_with_a_huge_loss_moves_no_more_than_the_clip(
    tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def total(factor: float) -> dict[str, torch.Tensor]:
        trainer = Recorded(
            learner_of(str(tiny_backbone), "lora"), config_of(), dp=_dp(sample_rate=1.0, noise_multiplier=0.0)
        )
        split = split_of(trainer.learner)
        plain = trainer.learner.task.loss_of

        def loss_of(outputs: torch.Tensor, split: Split, rows: torch.Tensor, prior: object = None) -> torch.Tensor:
            scale = torch.ones_like(outputs[:, 0]).masked_fill(rows == 2, factor)
            each = torch.stack([plain(out[None], split, row[None]) for out, row in zip(outputs, rows, strict=True)])
            return (each * scale).mean()

        monkeypatch.setattr(trainer.learner.task, "loss_of", loss_of)
        trainer.train(split, first_step=0, steps=1, seed=0)
        return trainer.sums[0]

    without = total(0.0)
    for factor in (1e-3, 1.0, 1e9, 1e200):
        found = total(factor)
        assert norm({name: found[name] - without[name] for name in found}) <= 0.4 * (1 + 1e-9)


def test_the_loss_is_not_told(tiny_backbone: Path) -> None:
    trainer = PrivateTrainer(learner_of(str(tiny_backbone), "head"), config_of(), dp=_dp())
    result = trainer.train(split_of(trainer.learner), first_step=0, steps=3, seed=0)
    assert math.isnan(result.loss)
    assert result.steps == 3
    assert result.seconds > 0


def test_label_counts_do_not_enter(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_of(str(tiny_backbone), "head")
    monkeypatch.setattr(learner.task, "prior", lambda *_: pytest.fail("it depends on the labels"))
    config = config_of(**{"logit-adjustment": 1.0})
    PrivateTrainer(learner, config, dp=_dp()).train(split_of(learner), first_step=0, steps=1, seed=0)


def test_same_draws_same_bits_and_the_runs_seed_is_not_what_draws(tiny_backbone: Path) -> None:
    def run(dp: DpSgd, seed: int = 1) -> dict[str, torch.Tensor]:
        learner = learner_of(str(tiny_backbone), "lora", double=False)
        PrivateTrainer(learner, config_of(), dp=dp).train(split_of(learner), first_step=0, steps=3, seed=seed)
        return _state(learner)

    first = run(_dp(7))
    assert _same(first, run(_dp(7)))
    assert _same(first, run(_dp(7), seed=2))
    assert not _same(first, run(_dp(8)))
    assert not _same(run(_DP), run(_DP))


def test_steps_follow_the_schedule_and_moments_go_on(tiny_backbone: Path) -> None:
    """Two stretches with moments handed over are one long training."""

    def run(*stretches: int) -> dict[str, torch.Tensor]:
        learner, dp, moments, step = learner_of(str(tiny_backbone), "lora"), _dp(), {}, 0
        for steps in stretches:
            trainer = PrivateTrainer(learner, config_of(), dp=dp)
            trainer.load_momentum(moments)
            trainer.train(split_of(learner), first_step=step, steps=steps, seed=1)
            moments, step = {key: value.clone() for key, value in trainer.momentum().items()}, step + steps
        return _state(learner)

    whole, two = run(4), run(1, 3)
    assert difference(two, whole) < 1e-12


def test_fedprox_pulls_after_the_noise(tiny_backbone: Path) -> None:
    """Its gradient is mu (w - w_start), neither clipped nor noised: zero at the first step."""

    def run(proximal: float) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
        learner = learner_of(str(tiny_backbone), "head")
        trainer = Recorded(learner, config_of(), dp=_dp(), proximal=proximal)
        start = _state(learner)
        trainer.train(split_of(learner), first_step=0, steps=1, seed=0)
        moved = {name: value - start[name] for name, value in _state(learner).items()}
        learner.trainables["head.weight"].parameter.data.copy_(start["head.weight"])
        learner.trainables["head.bias"].parameter.data.copy_(start["head.bias"])
        trainer = Recorded(learner, config_of(), dp=_dp(), proximal=proximal)
        trainer.train(split_of(learner), first_step=0, steps=2, seed=0)
        return trainer.sums, moved

    (plain, moved), (pulled, _) = run(0.0), run(1e3)
    assert _same(plain[0], pulled[0])
    expected = {name: plain[1][name] + 1e3 * moved[name] * _DP.sample_rate * 6 for name in moved}
    assert difference(pulled[1], expected) < 1e-9


def test_it_learns(tiny_backbone: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2
    images = torch.randint(0, 120, (60, 3, 32, 32), generator=generator) + 120 * labels.view(-1, 1, 1, 1)
    split = Split(images.to(torch.uint8), labels, np.arange(60))
    learner = Learner(load_backbone(str(tiny_backbone)), "head", Classification(("dark", "bright")), 0)
    config = config_of(**{"head-learning-rate": 0.05})
    trainer = PrivateTrainer(learner, config, dp=_dp(clip=1.0), cache=FeatureCache())
    before = trainer.evaluate(split)
    trainer.train(split, first_step=0, steps=20, seed=0)
    after = trainer.evaluate(split)
    assert after.loss < before.loss
    assert after.metrics["balanced_accuracy"] > 0.9


def test_what_rests_does_not_move(tiny_backbone: Path) -> None:
    learner = learner_of(str(tiny_backbone), "lora(factors='rolora')")
    for turn, still in (("lora_B", "lora_A"), ("lora_A", "lora_B")):
        before = _state(learner)
        with learner.taking_turns([turn]):
            trainer = PrivateTrainer(learner, config_of(), dp=_dp())
            trainer.train(split_of(learner), first_step=0, steps=2, seed=0)
        after = _state(learner)
        for name in before:
            assert torch.equal(before[name], after[name]) == name.endswith(still), name


def test_what_no_record_reaches_gets_no_noise_either(tiny_meter: str) -> None:
    """Here the last layer's text, of which only the first token is read, and its biases of keys."""
    learner = learner_of(tiny_meter, "kpl")
    trainer = Recorded(learner, config_of(), dp=_dp())
    before = _state(learner)
    trainer.train(split_of(learner), first_step=0, steps=1, seed=0)
    unreached = before.keys() - trainer.sums[0].keys()
    after = _state(learner)
    assert all(torch.equal(before[name], after[name]) == (name in unreached) for name in before)


def test_a_unit_that_the_data_lacks(tiny_backbone: Path) -> None:
    learner = learner_of(str(tiny_backbone), "head")
    trainer = PrivateTrainer(learner, config_of(), dp=_dp(unit="patient"))
    with pytest.raises(ConfigError, match="patient"):
        trainer.train(replace(split_of(learner), patient_of=None), first_step=0, steps=1, seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("clip", 0.0), ("clip", math.inf), ("sample_rate", 0.0), ("sample_rate", 1.1)],
        *[("noise_multiplier", -1.0), ("noise_multiplier", math.nan), ("physical_batch", 0), ("records_per_unit", 0)],
    ],
)
def test_settings_that_mean_nothing(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        replace(_DP, **{name: value})  # type: ignore[arg-type]


def _left(learner: Learner) -> dict[str, Any]:
    """All that someone could have left on a learner."""
    left: dict[str, Any] = {}
    for name, parameter in learner.named_parameters():
        left[name] = (sorted(vars(parameter)), parameter.requires_grad, parameter.grad is None)
    for name, module in learner.named_modules():
        hooks = [len(getattr(module, kind)) for kind in ("_forward_hooks", "_backward_hooks", "_forward_pre_hooks")]
        left[f"module {name}"] = (sorted(vars(module)), hooks, module._is_full_backward_hook, module.training)
    return left


@pytest.mark.parametrize("method", ["lora+vpt-deep", "full", "ssf"])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_on_the_learner(
    tiny_meter: str, method: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of(tiny_meter, method, double=False)
    split = split_of(learner, knowledge=True)
    trainer = PrivateTrainer(learner, config_of(), dp=_dp(sample_rate=1.0))
    trainer.train(split, first_step=0, steps=1, seed=0)
    learner.train()
    before, calls, plain = _left(learner), [], learner.task.loss

    def loss(*given: Any, **named: Any) -> torch.Tensor:
        calls.append(1)
        if fails and len(calls) == 2:
            plain(*given, **named)  # forward, and no backward
            raise RuntimeError("out of memory")
        return plain(*given, **named)

    monkeypatch.setattr(learner.task, "loss", loss)
    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            trainer.train(split, first_step=1, steps=2, seed=0)
    else:
        trainer.train(split, first_step=1, steps=2, seed=0)
    assert _left(learner) == before


def test_a_plain_training_afterwards_is_as_if_nothing_had_been(tiny_backbone: Path) -> None:
    def run(private: bool) -> dict[str, torch.Tensor]:
        learner = learner_of(str(tiny_backbone), "lora+layernorm", double=False)
        start = learner.export(learner.manifest())
        split = split_of(learner)
        if private:
            PrivateTrainer(learner, config_of(), dp=_dp()).train(split, first_step=0, steps=2, seed=0)
            learner.load(start)
        LocalTrainer(learner, config_of()).train(split, first_step=0, steps=3, seed=0)
        return _state(learner)

    assert _same(run(private=True), run(private=False))
