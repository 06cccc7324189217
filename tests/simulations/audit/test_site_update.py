from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmedpeft.training import LocalTrainer
from simulations.audit.site_update import Batch, batch_of, mean_gradient, norm, private_gradient, visit_change
from tests.simulations.audit.runs import audit_run

ROWS = torch.arange(4)


def test_the_gradient_is_that_of_the_mean_loss(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone, method="layernorm")
    learner = run.fresh()
    found = mean_gradient(learner, batch_of(run.data.train, ROWS), list(learner.trainables))
    cross_entropy(learner(run.data.train.images[ROWS]), run.data.train.labels[ROWS]).backward()
    for name, trainable in learner.trainables.items():
        torch.testing.assert_close(found[name], trainable.parameter.grad, rtol=1e-4, atol=1e-6)


def test_it_can_be_differentiated_by_the_images(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone, method="layernorm")
    batch = batch_of(run.data.train, ROWS[:1])
    images = batch.images.requires_grad_()
    found = mean_gradient(run.fresh(), Batch(images, batch.labels), ["blocks.0.norm1.weight"], differentiable=True)
    (gradient,) = torch.autograd.grad(found["blocks.0.norm1.weight"].square().sum(), images)
    assert float(gradient.abs().max()) > 0


def test_without_noise_and_bound_the_private_gradient_is_the_mean(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone)
    learner, batch = run.fresh(), batch_of(run.data.train, ROWS)
    private = private_gradient(learner, batch, ["head.weight"], clip=1e6, noise_multiplier=0.0, seed=0)
    torch.testing.assert_close(private["head.weight"], mean_gradient(learner, batch, ["head.weight"])["head.weight"])


def test_each_record_is_clipped_over_all_trainables_and_noise_has_the_stated_size(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone, method="layernorm")
    learner, batch = run.fresh(), batch_of(run.data.train, ROWS[:1])
    names = list(learner.trainables)
    assert norm(mean_gradient(learner, batch, names)) > 0.1
    clipped = private_gradient(learner, batch, names, clip=0.1, noise_multiplier=0.0, seed=0)
    assert norm(clipped) == pytest.approx(0.1, rel=1e-4)
    noisy = private_gradient(learner, batch, names, clip=0.1, noise_multiplier=3.0, seed=0)
    noise = torch.cat([(noisy[name] - clipped[name]).flatten() for name in names])
    assert float(noise.std()) == pytest.approx(0.3, rel=0.1)
    again = private_gradient(learner, batch, names, clip=0.1, noise_multiplier=3.0, seed=0)
    assert all(torch.equal(noisy[name], again[name]) for name in names)


def test_a_visit_is_the_runs_own_training(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone)
    start = run.fresh().trainables["head.weight"].parameter.detach().clone()
    rows = torch.arange(len(run.data.train))
    change = visit_change(run.fresh(), run.data.train, rows, run.config, ["head.weight"])["head.weight"]
    learner = run.fresh()
    LocalTrainer(learner, run.config).train(run.data.train, first_step=0, steps=10, seed=run.config.seed)
    torch.testing.assert_close(change, learner.trainables["head.weight"].parameter.detach() - start)
    assert float(change.abs().max()) > 1e-3
