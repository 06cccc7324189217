"""What the audited site gives away: the exchanged part of a learner trained on its data, and what it knows of a row."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fedmedpeft.data.split import Split
from fedmedpeft.exchange import PeftState
from fedmedpeft.tasks import RowTask
from fedmedpeft.training import LearnerPredictor, LocalTrainer
from fedmedpeft.training.private import PrivateTrainer
from simulations.audit.audited import AuditRun


def plain_trainer(run: AuditRun) -> LocalTrainer:
    """Trains without privacy, from the initial state."""
    return LocalTrainer(run.fresh(), run.config, cache=run.cache)


def private_trainer(run: AuditRun) -> PrivateTrainer:
    """Trains as the site does with privacy, from the initial state."""
    assert run.privacy is not None
    return PrivateTrainer(run.fresh(), run.config, dp=run.mechanism(run.privacy), cache=run.cache)


def contribute(run: AuditRun, trainer: LocalTrainer, split: Split, seed: int) -> PeftState:
    """All steps of the run on ``split`` alone; what is exchanged of the result.

    No other site is averaged in: for whoever sees one site's update, and the worst case for whoever sees the average.
    """
    learner, config = trainer.learner, run.config
    rotation = learner.rotation
    if not rotation:
        trainer.train(split, first_step=0, steps=config.total_steps, seed=seed)
    for round_ in range(1, config.rounds + 1) if rotation else ():
        groups = rotation.draw(config.seed, round_, run.site)
        if not rotation.persist:
            initial = run.model.initial
            learner.load(initial.only(initial.manifest.only(rotation.resting(groups))))
        with learner.taking_turns(groups):
            first = (round_ - 1) * config.local_steps
            trainer.train(split, first_step=first, steps=config.local_steps, seed=seed + round_)
    return learner.export(learner.manifest(without=config.personal_parts))


@torch.no_grad()
def losses(run: AuditRun, state: PeftState | None, split: Split) -> NDArray[np.float64]:
    """The loss [N] of each row of ``split`` by the model that ``state`` was released for; None: the initial one.

    What stays at the site is unknown to whoever has the state: there it is as it was before training.
    """
    learner = run.fresh()
    if state is not None:
        learner.load(state)
    task, predictor = learner.task, LearnerPredictor(learner, run.cache)
    rows = torch.arange(len(split)).split(1)
    if isinstance(task, RowTask):
        outputs = task.all_outputs(predictor, split)
        each = [task.loss_of(outputs[row], split, row) for row in rows]
    else:
        generator = torch.Generator().manual_seed(run.seed)
        each = [task.loss(predictor, split, row, prior=None, generator=generator) for row in rows]
    return torch.stack(each).double().cpu().numpy()
