"""Private trainings at small sites, and what they should do: a plain loop over records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from fedmedpeft.backbones import load_backbone
from fedmedpeft.config import RunConfig
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.privacy.units import units_of
from fedmedpeft.tasks import Classification, Task
from fedmedpeft.training.private import PrivateTrainer
from tests.every_method import texts

ROWS = 6
PATIENTS = torch.tensor([4, 4, 9, 4, 9, 7])
IMAGES = torch.tensor([0, 1, 2, 0, 3, 3])


def learner_of(backbone: str, method: str, task: Task | None = None, *, double: bool = True) -> Learner:
    """With every trainable moved off its start; in float64, unless asked otherwise."""
    learner = Learner(load_backbone(backbone), method, task or Classification(("a", "b", "c")), 0)
    generator = torch.Generator().manual_seed(5)
    for trainable in learner.trainables.values():
        trainable.parameter.data += 0.05 * torch.randn(trainable.parameter.shape, generator=generator)
    return learner.double() if double else learner


def split_of(learner: Learner, *, knowledge: bool = False) -> Split:
    """Six rows about four images of three patients; with questions where they are read."""
    generator = torch.Generator().manual_seed(3)
    said = texts(learner, ROWS)
    return Split(
        torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator),
        torch.tensor([0, 1, 2, 0, 1, 2]),
        np.arange(ROWS),
        IMAGES,
        text=said[0] if said else None,
        knowledge=said[0].rows(torch.tensor([2, 0, 3, 1, 5, 4])) if knowledge else None,
        answers=("yes", "no", "left lung", "no", "yes", "a mass"),
        patient_of=PATIENTS,
    )


def config_of(**values: object) -> RunConfig:
    return RunConfig.from_mapping({"rounds": 4, "local-steps": 5, "warmup-fraction": 0.0, **values})


class Recorded(PrivateTrainer):
    """Keeps the sum of each step, noise and all, and takes it without dropout, so that loops can be compared with."""

    def __init__(self, *args: object, **values: object) -> None:
        super().__init__(*args, **values)  # type: ignore[arg-type]
        self.sums: list[dict[str, torch.Tensor]] = []

    def train(self, split: Split, **values: int):  # type: ignore[no-untyped-def, override]
        self.expected = self.dp.sample_rate * units_of(split, self.dp.unit).count
        self.learner.train = lambda mode=True: type(self.learner).train(self.learner, False)  # type: ignore[method-assign]
        try:
            return super().train(split, **values)
        finally:
            del self.learner.train

    def _move(self, first: bool) -> None:
        gradients = {name: t.parameter.grad for name, t in self.learner.trainables.items()}
        self.sums.append({name: g.clone() * self.expected for name, g in gradients.items() if g is not None})
        super()._move(first)


def record_gradients(trainer: PrivateTrainer, split: Split, rows: Iterable[int]) -> list[dict[str, torch.Tensor]]:
    """Of one record at a time, by autograd; zero where the loss does not depend on a trainable."""
    learner, generator = trainer.learner.eval(), torch.Generator()
    names, parameters = zip(*((name, t.parameter) for name, t in learner.trainables.items()), strict=True)
    found = []
    for row in rows:
        loss = learner.task.loss(trainer, split, torch.tensor([row]), prior=None, generator=generator)
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        zero = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
        found.append(dict(zip(names, zero, strict=True)))
    return found


def norm(gradient: dict[str, torch.Tensor]) -> float:
    return float(torch.cat([each.flatten() for each in gradient.values()]).norm())


def clipped_by_loop(
    records: Sequence[dict[str, torch.Tensor]], units: Iterable[Sequence[int]], clip: float
) -> dict[str, torch.Tensor]:
    """The sum over units of the clipped mean of their records."""
    total = {name: torch.zeros_like(each) for name, each in records[0].items()}
    for rows in units:
        mean = {name: sum(records[row][name] for row in rows) / len(rows) for name in total}
        factor = min(1.0, clip / max(norm(mean), 1e-300))
        for name in total:
            total[name] += factor * mean[name]
    return total


def difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Relative to the whole; what was not found must be zero."""
    apart = {name: found.get(name, torch.zeros_like(each)) - each for name, each in expected.items()}
    return norm(apart) / norm(expected)
