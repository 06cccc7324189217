"""DP-SGD on one site's data (Abadi et al., CCS 2016), for records, images or patients."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from fedmedpeft.config import RunConfig
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.privacy.randomness import Randomness, SystemRandomness
from fedmedpeft.privacy.units import Unit, units_of
from fedmedpeft.training.features import FeatureCache
from fedmedpeft.training.local import LocalTrainer, TrainingResult, parameter_groups
from fedmedpeft.training.per_record import watching
from fedmedpeft.training.per_unit import PoissonSampler, UnitGradients
from fedmedpeft.training.private_refusal import PrivacyError, refuse_private
from fedmedpeft.training.self_check import checked_step, reached_trainables, still

__all__ = ["DpSgd", "PrivacyError", "PrivateTrainer", "refuse_private"]


@dataclass(frozen=True)
class DpSgd:
    """One stretch of the sampled Gaussian mechanism.

    Attributes:
        noise_multiplier: z; noise has the standard deviation z * clip in every coordinate of the sum.
        sample_rate: q, the probability of each unit to be in a step.
        clip: C, the largest norm of one unit's gradient, over all that trains.
        unit: what is protected one of.
        records_per_unit: rows of one unit in one step, at most; drawn anew each step where it has more.
        physical_batch: rows whose gradients are held at once.
        randomness: of sampling and noise. The run's seed will not do: the server knows it.
    """

    noise_multiplier: float
    sample_rate: float
    clip: float = 1.0
    unit: Unit = "record"
    records_per_unit: int = 4
    physical_batch: int = 64
    randomness: Randomness = field(default_factory=SystemRandomness)

    def __post_init__(self) -> None:
        allowed = {
            "noise_multiplier": 0 <= self.noise_multiplier < math.inf,
            "sample_rate": 0 < self.sample_rate <= 1,
            "clip": 0 < self.clip < math.inf,
            "records_per_unit": self.records_per_unit >= 1,
            "physical_batch": self.physical_batch >= 1,
        }
        for name, fits in allowed.items():
            if not fits:
                raise ValueError(f"{name}={getattr(self, name)} means nothing")


class PrivateTrainer(LocalTrainer):
    """Noisy steps, each of which one unit's being in the data or not can change by no more than ``clip``.

    A step draws units, takes the mean of the gradients of each one's records, clips it, sums, adds noise, divides by
    the *expected* number of units and hands that to AdamW; what is done with a noised gradient is post-processing, and
    so is FedProx's pull, which no record enters. ``gradient_clip``, ``logit_adjustment`` and ``batch_size`` of the
    configuration are not used.

    Opacus gives the gradients of single records; its optimiser and engine are not used, since they know neither
    patients nor the operating system's randomness, and an empty batch crashes a transformer under them.

    Args:
        dp: how private a step is; the others as for :class:`LocalTrainer`.

    Raises:
        PrivacyError: the method or task cannot be trained so.
    """

    tells_loss = False

    def __init__(
        self,
        learner: Learner,
        config: RunConfig,
        *,
        dp: DpSgd,
        rate: float = 1.0,
        proximal: float = 0.0,
        cache: FeatureCache | None = None,
    ) -> None:
        refuse_private(learner)
        super().__init__(learner, config, rate=rate, proximal=proximal, cache=cache)
        self.dp = dp

    def train(self, split: Split, *, first_step: int, steps: int, seed: int) -> TrainingResult:
        """Take ``steps`` noisy steps; ``seed`` is of dropout alone. The loss is told to nobody: nan.

        Raises:
            PrivacyError: a check of the gradients or of the first step failed; what was trained must not be used.
            ConfigError: the data does not have such units.
        """
        learner, dp, began = self.learner, self.dp, time.perf_counter()
        units = units_of(split, dp.unit)
        names = reached_trainables(self, learner, split, units)
        parameters = {name: learner.trainables[name].parameter for name in names}
        sampler = PoissonSampler(units, dp.sample_rate, dp.records_per_unit, dp.randomness)
        anchor, untouched = self._anchor(), still(learner)
        learner.train()
        with self._draws(seed) as generator, watching(learner) as take:

            def loss(rows: torch.Tensor) -> torch.Tensor:
                return len(rows) * learner.task.loss(self, split, rows, prior=None, generator=generator)

            gradients = UnitGradients(loss, take, parameters, dp.clip, dp.physical_batch)
            for step in range(first_step, first_step + steps):
                self._set_rates(step)
                self._noise(parameters.values(), gradients.sum(sampler.draw()), dp.sample_rate * units.count)
                self._pull(anchor)
                self._move(first=step == first_step)
        if still(learner) != untouched:
            raise PrivacyError("training changed what is frozen: what was trained is not what was meant")
        return TrainingResult(math.nan, steps, time.perf_counter() - began)

    def wander(self, steps: int) -> None:
        """Take the first ``steps`` of a run on noise alone: how far private steps go, without a look at any record."""
        parameters = [t.parameter for t in self.learner.trainables.values() if t.parameter.requires_grad]
        for step in range(steps):
            self._set_rates(step)
            self._noise(parameters, [torch.zeros_like(parameter) for parameter in parameters], 1.0)
            self.optimiser.step()

    def _noise(self, parameters: Collection[nn.Parameter], sums: Sequence[torch.Tensor], expected: float) -> None:
        """Set the gradients: ``sums`` and noise, over the number of units that a step is expected to have."""
        sizes = [parameter.numel() for parameter in parameters]
        std = self.dp.noise_multiplier * self.dp.clip
        noise = self.dp.randomness.normal((sum(sizes),), std=std, device=self.learner.mean.device)
        self.optimiser.zero_grad(set_to_none=True)
        for parameter, total, part in zip(parameters, sums, noise.split(sizes), strict=True):
            parameter.grad = (total + part.view_as(total)) / expected

    def _pull(self, anchor: Iterable[tuple[nn.Parameter, torch.Tensor]]) -> None:
        """FedProx's, on what has a gradient."""
        for parameter, start in anchor:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=self.proximal)

    def _move(self, first: bool) -> None:
        if first:
            groups = parameter_groups(self.learner, self.config)
            fresh = torch.optim.AdamW(groups, weight_decay=self.config.weight_decay)
            checked_step(self.learner, self.optimiser, fresh)
        else:
            self.optimiser.step()
