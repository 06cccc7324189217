from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedmedpeft.backbones import load_backbone
from fedmedpeft.config import RunConfig
from fedmedpeft.data.site_data import Split
from fedmedpeft.learner import Learner
from fedmedpeft.tasks import Classification
from fedmedpeft.training import FeatureCache, LocalTrainer


def _split(count: int = 24) -> Split:
    """Bright against dark images: learnable in a few steps."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    images = torch.randint(0, 120, (count, 3, 32, 32), generator=generator) + 120 * labels.view(-1, 1, 1, 1)
    return Split(images.to(torch.uint8), labels, np.arange(count))


def _learner(directory: Path, method: str) -> Learner:
    return Learner(load_backbone(str(directory)), method, Classification(("dark", "bright")), 0)


def _config(**values: object) -> RunConfig:
    return RunConfig.from_mapping({"rounds": 4, "local-steps": 5, "batch-size": 8, **values})


def _hash(learner: Learner) -> str:
    return learner.export(learner.manifest()).hash()


@pytest.mark.parametrize("method", ["head", "lora", "vpt-deep"])
def test_it_learns(tiny_backbone: Path, method: str) -> None:
    trainer = LocalTrainer(_learner(tiny_backbone, method), _config(), cache=FeatureCache())
    before = trainer.evaluate(_split())
    result = trainer.train(_split(), first_step=0, steps=20, seed=1)
    after = trainer.evaluate(_split())
    assert result.steps == 20
    assert after.loss < before.loss
    assert before.metrics["balanced_accuracy"] <= 0.75
    assert after.metrics["balanced_accuracy"] == 1.0


def test_same_seed_same_bits(tiny_backbone: Path) -> None:
    def run(seed: int) -> str:
        learner = _learner(tiny_backbone, "lora(dropout=0.3)+vpt-deep(dropout=0.3)")
        LocalTrainer(learner, _config()).train(_split(), first_step=0, steps=3, seed=seed)
        return _hash(learner)

    assert run(1) == run(1) != run(2)


def test_training_leaves_the_global_generator_alone(tiny_backbone: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    LocalTrainer(_learner(tiny_backbone, "lora(dropout=0.3)"), _config()).train(_split(), first_step=0, steps=1, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_fedprox_does_not_pull_what_stays_at_the_site(tiny_backbone: Path) -> None:
    config = _config(**{"method": "lora+layernorm"})
    learner = _learner(tiny_backbone, config.method)
    pulled = LocalTrainer(learner, config, proximal=1.0)._exchanged()
    assert len(pulled) == sum(t.owner != "layernorm" for t in learner.trainables.values())


def test_cached_features_give_what_the_backbone_gives(tiny_backbone: Path) -> None:
    def run(cache: FeatureCache | None) -> dict[str, np.ndarray]:
        learner = _learner(tiny_backbone, "head")
        LocalTrainer(learner, _config(), cache=cache).train(_split(), first_step=0, steps=5, seed=1)
        return learner.export(learner.manifest()).tensors()

    with_cache, without = run(FeatureCache()), run(None)
    for name in with_cache:
        np.testing.assert_allclose(with_cache[name], without[name], atol=1e-5)


def test_cache_is_never_used_where_features_move(tiny_backbone: Path) -> None:
    assert LocalTrainer(_learner(tiny_backbone, "lora"), _config(), cache=FeatureCache()).cache is None


def test_rounds_with_kept_momentum_continue_one_long_training(tiny_backbone: Path) -> None:
    """Two stretches with moments handed over use the same optimiser as one stretch; without, they do not."""

    def two(keep: bool) -> str:
        learner = _learner(tiny_backbone, "lora")
        first = LocalTrainer(learner, _config())
        first.train(_split(8), first_step=0, steps=1, seed=1)
        second = LocalTrainer(learner, _config())
        if keep:
            second.load_momentum({k: v.clone() for k, v in first.momentum().items()})
        second.train(_split(8), first_step=1, steps=1, seed=1)
        return _hash(learner)

    whole = _learner(tiny_backbone, "lora")
    trainer = LocalTrainer(whole, _config())
    trainer.train(_split(8), first_step=0, steps=1, seed=1)
    trainer.train(_split(8), first_step=1, steps=1, seed=1)
    assert two(keep=True) == _hash(whole) != two(keep=False)


def test_the_proximal_term_is_exact(tiny_backbone: Path) -> None:
    """Its gradient is mu (w - w_start): zero at the first step, then as brute force says."""

    def after(steps: int, mu: float) -> dict[str, np.ndarray]:
        learner = _learner(tiny_backbone, "head")
        config = _config(**{"gradient-clip": 0.0, "warmup-fraction": 0.0, "weight-decay": 0.0})
        LocalTrainer(learner, config, proximal=mu).train(_split(), first_step=0, steps=steps, seed=1)
        return learner.export(learner.manifest()).tensors()

    assert all(np.array_equal(after(1, 0.0)[name], after(1, 5.0)[name]) for name in after(1, 0.0))
    start = _learner(tiny_backbone, "head")
    begin = start.export(start.manifest()).tensors()

    def distance(state: dict[str, np.ndarray]) -> float:
        return float(sum(np.square(state[name] - begin[name]).sum() for name in state))

    assert distance(after(20, 5.0)) < 0.5 * distance(after(20, 0.0))


def test_each_owner_has_its_own_step_size(tiny_backbone: Path) -> None:
    trainer = LocalTrainer(_learner(tiny_backbone, "lora+vpt-deep"), _config(**{"head-learning-rate": 0.5}))
    assert sorted(group["lr"] for group in trainer.optimiser.param_groups) == [2e-3, 1e-2, 0.5]
    trainer = LocalTrainer(_learner(tiny_backbone, "lora"), _config(**{"learning-rate": 0.25}))
    assert sorted(group["lr"] for group in trainer.optimiser.param_groups) == [5e-3, 0.25]


def test_the_scale_multiplies_every_step_size(tiny_backbone: Path) -> None:
    config = _config(**{"learning-rate": 0.25, "learning-rate-scale": 3.0})
    trainer = LocalTrainer(_learner(tiny_backbone, "lora"), config)
    assert sorted(group["lr"] for group in trainer.optimiser.param_groups) == pytest.approx([3 * 5e-3, 3 * 0.25])


def test_a_site_smaller_than_a_batch_trains_on_all_it_has(tiny_backbone: Path) -> None:
    result = LocalTrainer(_learner(tiny_backbone, "head"), _config()).train(_split(3), first_step=0, steps=4, seed=0)
    assert result.steps == 4
