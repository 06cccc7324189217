"""What the server gets of a site's visit: one gradient (its best case), a private one, or the change after AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from fedmedpeft.config import RunConfig
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner
from fedmedpeft.privacy.randomness import SeededRandomness
from fedmedpeft.training import LocalTrainer
from fedmedpeft.training.per_unit import clipped_sum

Update = dict[str, torch.Tensor]
"""By the name of the exchanged tensor."""


@dataclass(frozen=True)
class Batch:
    """float images [B, 3, S, S] in 0..1 and their labels, int64 [B]."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


def batch_of(split: Split, rows: torch.Tensor) -> Batch:
    """Rows of a split of images and classes."""
    return Batch(split.images[split.image_of[rows]].float() / 255, split.labels[rows])


def mean_gradient(learner: Learner, batch: Batch, names: Iterable[str], *, differentiable: bool = False) -> Update:
    """Gradient of the mean cross-entropy by each of ``names``: all that one step of plain SGD would tell.

    Args:
        differentiable: whether the result can be differentiated by the images.
    """
    parameters = {name: learner.trainables[name].parameter for name in names}
    # The fused attention kernels have no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        loss = cross_entropy(learner(255 * batch.images), batch.labels.to(learner.mean.device))
        gradients = torch.autograd.grad(
            loss, list(parameters.values()), create_graph=differentiable, allow_unused=True, materialize_grads=True
        )
    return dict(zip(parameters, gradients, strict=True))


def private_gradient(
    learner: Learner, batch: Batch, names: Iterable[str], *, clip: float, noise_multiplier: float, seed: int
) -> Update:
    """The same with DP-SGD: each record's gradient over *all* trainables clipped, noise on the sum, divided by B.

    Abadi et al., CCS 2016. B is the expected size of the batch, which is drawn as it was expected. The noise is seeded
    so that an audit can be repeated; a site's own never is.
    """
    every, records = list(learner.trainables), torch.arange(len(batch)).split(1)
    own = [mean_gradient(learner, Batch(batch.images[row], batch.labels[row]), every) for row in records]
    sums = clipped_sum([torch.stack([gradient[name] for gradient in own]) for name in every], clip)
    noise = SeededRandomness(seed)
    noisy = {
        name: (value + noise.normal(value.shape, std=noise_multiplier * clip, device=value.device)) / len(batch)
        for name, value in zip(every, sums, strict=True)
    }
    return {name: noisy[name] for name in names}


def visit_change(learner: Learner, split: Split, rows: torch.Tensor, config: RunConfig, names: Iterable[str]) -> Update:
    """What a whole visit, the run's own AdamW steps, changes where ``rows`` are all the images that the site has.

    The learner is left where the visit ended.
    """
    kept = list(names)
    before = {name: learner.trainables[name].parameter.detach().clone() for name in kept}
    own = Split(split.images[split.image_of[rows]], split.labels[rows], split.rows[rows.numpy()])
    LocalTrainer(learner, config).train(own, first_step=0, steps=config.local_steps, seed=config.seed)
    learner.eval()
    return {name: learner.trainables[name].parameter.detach() - value for name, value in before.items()}


def norm(update: Update) -> float:
    """Euclidean norm over all tensors."""
    return float(torch.stack([value.detach().double().square().sum() for value in update.values()]).sum().sqrt())
