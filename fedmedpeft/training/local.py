"""Training on one site's data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.utils import clip_grad_norm_

from fedmedpeft.config import RunConfig
from fedmedpeft.data.split import Split
from fedmedpeft.learner import HEAD, Learner
from fedmedpeft.training.features import FeatureCache
from fedmedpeft.training.memory import PhysicalBatch
from fedmedpeft.training.predictor import LearnerPredictor
from fedmedpeft.training.schedule import Schedule

Loss = Callable[[torch.Tensor], torch.Tensor]
"""Of some rows: their mean loss."""


@dataclass(frozen=True)
class TrainingResult:
    """Aggregates of one stretch of local training; ``loss`` is nan where privacy forbids to tell it."""

    loss: float
    steps: int
    seconds: float


class LocalTrainer(LearnerPredictor):
    """AdamW on the learner's trainables. One instance serves one stretch of steps of one site.

    To the task it is the predictor.

    Args:
        learner: trained in place.
        config: step sizes, batch size, schedule, corrections.
        rate: what all step sizes are multiplied by.
        proximal: mu of FedProx (Li et al., MLSys 2020): (mu / 2) ||w - w_start||^2 is added to the loss; 0 is off.
        cache: frozen features, used where the method leaves them as they are.
    """

    tells_loss: ClassVar[bool] = True
    """Whether the loss is more than nan: where it is, one that is not finite means that training diverged."""

    def __init__(
        self,
        learner: Learner,
        config: RunConfig,
        *,
        rate: float = 1.0,
        proximal: float = 0.0,
        cache: FeatureCache | None = None,
    ) -> None:
        super().__init__(learner, cache)
        self.config = config
        self.proximal = proximal
        self.optimiser = torch.optim.AdamW(parameter_groups(learner, config), weight_decay=config.weight_decay)
        self._base_rates = [rate * group["lr"] for group in self.optimiser.param_groups]
        self._physical = PhysicalBatch()
        self._schedule = Schedule(config.total_steps, config.warmup_fraction, config.schedule)

    def train(self, split: Split, *, first_step: int, steps: int, seed: int) -> TrainingResult:
        """Take ``steps`` optimiser steps, the first being number ``first_step`` of the site's whole run."""
        learner, config = self.learner, self.config
        learner.train()
        prior = learner.task.prior(split, config.logit_adjustment) if config.logit_adjustment else None
        prior = None if prior is None else prior.to(learner.mean.device)
        anchor = self._anchor()
        losses, began = 0.0, time.perf_counter()
        batches = _batches(len(split), config.batch_size, seed)
        with self._draws(seed) as generator:

            def loss(part: torch.Tensor) -> torch.Tensor:
                value = learner.task.loss(self, split, part, prior=prior, generator=generator)
                for parameter, start in anchor:
                    value = value + 0.5 * self.proximal * (parameter - start).square().sum()
                return value

            for step, rows in zip(range(first_step, first_step + steps), batches, strict=False):
                losses += self._step(step, loss, rows)
        return TrainingResult(losses / steps, steps, time.perf_counter() - began)

    def _step(self, step: int, loss: Loss, rows: torch.Tensor) -> float:
        """One optimiser step down the mean loss of ``rows``; its value."""
        self._set_rates(step)
        value = self._gradients(loss, rows)
        if self.config.gradient_clip:
            clip_grad_norm_(self._parameters(), self.config.gradient_clip)
        self.optimiser.step()
        return value

    def _gradients(self, loss: Loss, rows: torch.Tensor) -> float:
        """Set those of the mean loss, in parts where memory does not suffice for all rows at once; its value."""

        def backward(part: torch.Tensor, share: float) -> float:
            value = loss(part) if len(part) == len(rows) else share * loss(part)
            value.backward()
            return float(value.detach())

        def start() -> None:
            self.optimiser.zero_grad(set_to_none=True)

        if self.learner.task.per_record:
            return self._physical.fit(rows, backward, start)
        start()
        return backward(rows, 1.0)

    def _set_rates(self, step: int) -> None:
        """The schedule's step sizes at ``step``."""
        for group, rate in zip(self.optimiser.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * self._schedule.factor(step)

    @contextmanager
    def _draws(self, seed: int) -> Iterator[torch.Generator]:
        """Within, everything random follows from ``seed``: what a task draws, from the generator given, and dropout.

        Dropout draws from torch's global generator: seeded here, and put back as it was.
        """
        device = self.learner.mean.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield torch.Generator().manual_seed(seed)

    def momentum(self) -> dict[str, torch.Tensor]:
        """The optimiser's moments by parameter name (``<name>/exp_avg``, ...), to go on from in a later round."""
        state = self.optimiser.state
        return {
            f"{name}/{key}": value
            for name, trainable in self.learner.trainables.items()
            for key, value in state[trainable.parameter].items()
        }

    def load_momentum(self, moments: Mapping[str, torch.Tensor]) -> None:
        """Restore what :meth:`momentum` gave."""
        for name, trainable in self.learner.trainables.items():
            kept = {key.rpartition("/")[2]: v for key, v in moments.items() if key.rpartition("/")[0] == name}
            if kept:
                device = trainable.parameter.device
                # AdamW counts its steps on the CPU and wants the moments beside their parameter.
                moved = {key: v if key == "step" else v.to(device) for key, v in kept.items()}
                self.optimiser.state[trainable.parameter] = moved

    def _anchor(self) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
        """What FedProx pulls back, and where to."""
        return [(p, p.detach().clone()) for p in self._exchanged()] if self.proximal else []

    def _exchanged(self) -> list[torch.nn.Parameter]:
        """FedProx pulls towards the global state; what stays at the site has none, and what rests does not move."""
        learner = self.learner
        specs = learner.manifest(without=self.config.personal_parts).tensors
        parameters = [learner.trainables[spec.name].parameter for spec in specs]
        return [parameter for parameter in parameters if parameter.requires_grad]

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [trainable.parameter for trainable in self.learner.trainables.values()]


def parameter_groups(learner: Learner, config: RunConfig) -> list[dict[str, object]]:
    """One parameter group per method and one for the head, each with its own step size."""
    groups: dict[str, dict[str, object]] = {}
    for trainable in learner.trainables.values():
        rate = config.learning_rate or trainable.learning_rate
        rate = config.head_learning_rate if trainable.owner == HEAD else rate
        group = groups.setdefault(trainable.owner, {"params": [], "lr": rate * config.learning_rate_scale})
        group["params"].append(trainable.parameter)  # type: ignore[attr-defined]
    return list(groups.values())


def _batches(samples: int, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless batches of row numbers, each pass over the data in a fresh order; a short last batch is dropped."""
    generator = torch.Generator().manual_seed(seed)
    size = min(size, samples)
    while True:
        order = torch.randperm(samples, generator=generator)
        yield from (order[start : start + size] for start in range(0, samples - size + 1, size))
