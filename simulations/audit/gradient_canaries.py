"""Canaries in the gradients: the strongest attacker that DP-SGD promises to withstand, who sees every noised step.

A canary is a record whose loss has a term in a weight of its own, so its gradient points along one axis and is cut down
to the clipping norm like any other (the Dirac canaries of Steinke et al., NeurIPS 2023, and Nasr et al., USENIX
Security 2023). Records pass through the site's own training code: sampling, single records' gradients, clipping, noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import chi2
from torch import nn
from torch.nn.functional import one_hot

from clients.site_model import SiteModel
from fedmedpeft.components import ConfigError
from fedmedpeft.data.split import Split
from fedmedpeft.learner import HEAD, Learner, Trainable, load_configured
from fedmedpeft.privacy.units import Unit
from fedmedpeft.tasks import Predictor, Task
from simulations.audit.audited import AuditRun
from simulations.audit.canaries import Shown, audited_delta, coins, upper_bound
from simulations.audit.contribution import private_trainer
from simulations.audit.lower_bound import bound
from simulations.audit.rows import take

CANARIES = {"quick": 2000, "full": 10_000}
_CHANCE = 1e-6
"""With which a sound training is called broken, for noise and for clipping."""
_NAME = "canaries"
_STEEPNESS = 1e3
"""A canary's own slope: so much that clipping leaves hardly anything of its image's gradient."""


class _Garden(NamedTuple):
    """Where canaries are: the data, and their weights [1, M]."""

    split: Split
    weight: nn.Parameter


@dataclass(frozen=True)
class Observed:
    """What the attacker saw.

    Attributes:
        shown: the bound.
        noise: standard deviation of the noise found on canaries that were out, relative to what was promised.
        least_noise: below which it is no chance.
        part: what one canary added in a step in which it was drawn, relative to the clipping norm.
        most_part: above which it is no chance.
    """

    shown: Shown
    noise: float
    least_noise: float
    part: float
    most_part: float

    @property
    def sound(self) -> bool:
        """Whether noise and clipping are as epsilon was computed for."""
        return self.noise >= self.least_noise and self.part <= self.most_part


def attack_updates(run: AuditRun) -> Observed:
    """Train once with privacy; guess by the sum of all noised updates along each canary's axis.

    Where the task has a head, it alone is trained beside the canaries, whatever the method: sampling, clipping and
    noise are the same, and on features computed once there can be thousands of canaries.
    """
    assert run.privacy is not None
    privacy, included = run.privacy, coins(CANARIES[run.effort])
    run.say(f"canaries among the gradients: {len(included)}, one training with privacy")
    sums = _summed_updates(replace(run, model=_quickest(run)), included)
    delta = audited_delta(privacy)
    shown = Shown(bound(sums, included, delta), upper_bound(privacy, delta), delta)
    inside, outside, steps = sums[included], sums[~included], run.config.total_steps
    noise = outside.std(ddof=1) / (privacy.noise_multiplier * privacy.clip * math.sqrt(steps))
    drawn = privacy.sample_rate * steps * privacy.clip
    part = (inside.mean() - outside.mean()) / drawn
    error = math.sqrt(inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside)) / drawn
    free = len(outside) - 1
    least = math.sqrt(chi2.ppf(_CHANCE, free) / free)
    return Observed(shown, float(noise), least, float(part), 1 - float(ndtri(_CHANCE)) * error)


def _quickest(run: AuditRun) -> SiteModel:
    try:
        learner = Learner(load_configured(run.config), HEAD, run.model.learner.task, run.config.seed)
    except ConfigError:  # the task has no head
        return run.model
    return SiteModel(learner, learner.export(learner.manifest()))


def _summed_updates(run: AuditRun, included: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Over all steps, the noised sum of gradients along each canary's axis, [M]."""
    assert run.privacy is not None
    count = run.units.count + int(included.sum())
    sums = np.zeros(len(included))
    with _planted(run.model.learner, run.data.train, included, run.privacy.unit) as garden:
        trainer = private_trainer(run)

        def watch(*_: object) -> None:
            assert garden.weight.grad is not None
            sums[:] += garden.weight.grad.detach().flatten().double().cpu().numpy()

        trainer.optimiser.register_step_pre_hook(watch)
        trainer.train(garden.split, first_step=0, steps=run.config.total_steps, seed=run.seed)
    return sums * run.privacy.sample_rate * count


@contextmanager
def _planted(learner: Learner, split: Split, included: NDArray[np.bool_], unit: Unit) -> Iterator[_Garden]:
    """Data with a unit for each canary that is in, and a layer of the canaries' weights in ``learner`` meanwhile."""
    axes = torch.from_numpy(np.flatnonzero(included))
    layer = nn.Linear(len(included), 1, bias=False)
    layer.weight = weight = nn.Parameter(torch.zeros(1, len(included), device=learner.mean.device))
    task, none = learner.task, torch.full((len(split),), -1)
    try:
        learner.add_module(_NAME, layer)
        learner.trainables[f"{_NAME}.weight"] = Trainable(weight, (HEAD,), 0.0)
        learner.task = cast(Task, _WithCanaries(task, layer, torch.cat([none, axes])))
        yield _Garden(_with_strangers(split, len(axes), unit), weight)
    finally:
        learner.task = task
        learner.trainables.pop(f"{_NAME}.weight", None)
        delattr(learner, _NAME)


def _with_strangers(split: Split, count: int, unit: Unit) -> Split:
    """So many more rows, copies of the first, each a unit of its own."""
    grown = take(split, torch.cat([torch.arange(len(split)), torch.zeros(count, dtype=torch.int64)]))
    if unit == "image":
        copies = split.images[split.image_of[:1]].expand(count, -1, -1, -1)
        own = torch.arange(len(split.images), len(split.images) + count)
        return replace(grown, images=torch.cat([split.images, copies]), image_of=torch.cat([split.image_of, own]))
    if unit == "patient" and split.patient_of is not None:
        strangers = int(split.patient_of.max()) + 1 + torch.arange(count)
        return replace(grown, patient_of=torch.cat([split.patient_of, strangers]))
    return grown


class _WithCanaries:
    """A task with a term in the loss for rows that are canaries; in all else the task itself.

    Args:
        task: the run's.
        layer: one weight for each canary.
        axis_of: int64 [N], the canary that each row is; -1 for none.
    """

    def __init__(self, task: Task, layer: nn.Linear, axis_of: torch.Tensor) -> None:
        self._task, self._layer, self._axis_of = task, layer, axis_of

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def loss(
        self,
        predictor: Predictor,
        split: Split,
        rows: torch.Tensor,
        *,
        prior: torch.Tensor | None,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Mean over ``rows``, as the task's."""
        loss = self._task.loss(predictor, split, rows, prior=prior, generator=generator)
        axes = self._axis_of[rows]
        which = one_hot(axes.clamp(min=0), self._layer.in_features) * (axes >= 0).unsqueeze(1)
        slopes: torch.Tensor = self._layer(which.to(loss))
        return loss + _STEEPNESS * slopes.mean()
