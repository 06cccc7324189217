from __future__ import annotations

from pathlib import Path

import torch

from simulations.audit.candidates import CandidateGradients
from simulations.audit.site_update import Batch, batch_of, mean_gradient, private_gradient
from tests.simulations.audit.runs import audit_run


def test_who_holds_the_images_knows_which_were_in_the_step(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone, method="layernorm")
    learner, names = run.fresh(), list(run.fresh().trainables)
    candidates = batch_of(run.data.train, torch.arange(40))
    known = CandidateGradients.of(learner, candidates, names)
    victims = torch.tensor([31, 2, 17])
    batch = Batch(candidates.images[victims], candidates.labels[victims])
    assert set(known.recognise(mean_gradient(learner, batch, names), 3).tolist()) == {31, 2, 17}


def test_noise_takes_that_away(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone, method="layernorm")
    learner, names = run.fresh(), list(run.fresh().trainables)
    candidates = batch_of(run.data.train, torch.arange(40))
    known = CandidateGradients.of(learner, candidates, names)
    found = 0
    for row in range(20):
        batch = Batch(candidates.images[row : row + 1], candidates.labels[row : row + 1])
        update = private_gradient(learner, batch, names, clip=1.0, noise_multiplier=4.0, seed=row)
        found += int(known.recognise(update, 1)) == row
    assert found <= 4
