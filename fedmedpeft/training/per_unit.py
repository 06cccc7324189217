"""From records to units of privacy: who is drawn in a step, and how much of it each may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fedmedpeft.privacy.randomness import Randomness
from fedmedpeft.privacy.units import Units
from fedmedpeft.training.per_record import Take
from fedmedpeft.training.private_refusal import PrivacyError

_BLOCK = 2**14
"""Squares that are added up in the gradients' own precision; sums of these are added up in float64."""


class PoissonSampler:
    """Draws units, each on its own with the same probability, and some of their rows.

    Args:
        units: of the training data.
        rate: the probability, which accounting calls the sample rate.
        most: rows of one unit in one step, at most.
        randomness: of both draws.
    """

    def __init__(self, units: Units, rate: float, most: int, randomness: Randomness) -> None:
        self._rate, self._most, self._randomness = rate, most, randomness
        sizes = torch.bincount(units.of_row, minlength=units.count)
        self._rows = units.of_row.argsort(stable=True).split(sizes.tolist())

    def draw(self) -> list[torch.Tensor]:
        """The rows, int64 [1 to most], of each unit that is in this step; there may be none."""
        drawn = self._randomness.uniform(len(self._rows)) < self._rate
        return [self._some(self._rows[unit]) for unit in drawn.nonzero().flatten().tolist()]

    def _some(self, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) <= self._most:
            return rows
        return rows[self._randomness.uniform(len(rows)).argsort()[: self._most]]


@dataclass(frozen=True)
class UnitGradients:
    """Sums of what units give, none of which gives more than ``clip``.

    Attributes:
        loss: rows -> the sum of their losses.
        take: the gradients of single rows that its ``backward`` left.
        parameters: by name, all that the loss depends on.
        clip: the largest norm of one unit's gradient, over all parameters together.
        physical_batch: rows whose gradients are held at once.
    """

    loss: Callable[[torch.Tensor], torch.Tensor]
    take: Take
    parameters: Mapping[str, nn.Parameter]
    clip: float
    physical_batch: int

    def sum(self, units: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """For each parameter the sum over ``units``, the rows of each; zero without any, and nothing is computed."""
        total = [torch.zeros_like(parameter) for parameter in self.parameters.values()]
        for batch in _physical_batches(units, self.physical_batch):
            for mine, more in zip(total, clipped_sum(self._means(batch), self.clip), strict=True):
                mine += more
        return total

    def _means(self, units: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """For each parameter the mean gradient [U, ...] of each unit's rows."""
        rows, sizes = torch.cat(list(units)), torch.tensor([len(rows) for rows in units])
        if len(units) == len(rows) <= self.physical_batch:
            return self._of_rows(rows)
        owners = torch.repeat_interleave(torch.arange(len(units)), sizes)
        means = [parameter.new_zeros(len(units), *parameter.shape) for parameter in self.parameters.values()]
        for part, unit_of in zip(rows.split(self.physical_batch), owners.split(self.physical_batch), strict=True):
            for mean, each in zip(means, self._of_rows(part), strict=True):
                # No product with a matrix of shares: its zeros times what is not finite would spoil the other units.
                mean.index_add_(0, unit_of.to(mean.device), each)
        for mean in means:
            mean.div_(sizes.to(mean).view(-1, *[1] * (mean.ndim - 1)))
        return means

    def _of_rows(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """For each parameter the gradients [R, ...] of single rows."""
        self.loss(rows).backward()
        found = self.take(len(rows))
        if found.keys() != self.parameters.keys():
            raise PrivacyError("some records reach other parameters than others do: their gradients cannot be bounded")
        return [found[name] for name in self.parameters]


def clipped_sum(gradients: Sequence[torch.Tensor], clip: float) -> list[torch.Tensor]:
    """The sum over units of their gradients, each cut down to the norm ``clip``.

    A unit whose gradient is not finite adds nothing.

    Args:
        gradients: for each parameter, [U, ...]; a unit's norm is over all of them together. Taken over.
        clip: C.
    """
    norms = torch.stack([_norms(gradient) for gradient in gradients]).norm(dim=0)
    factors = (clip / norms).clamp(max=1)
    broken = ~norms.isfinite()
    if broken.any():
        factors[broken] = 0
        for gradient in gradients:
            gradient[broken] = 0
    return [torch.einsum("u,u...->...", factors.to(gradient.dtype), gradient) for gradient in gradients]


def _norms(gradients: torch.Tensor) -> torch.Tensor:
    """Of [U, ...], float64 [U]."""
    blocks = gradients.flatten(1).split(_BLOCK, dim=1)
    norms: torch.Tensor = torch.stack([torch.linalg.vector_norm(block, dim=1).double() for block in blocks]).norm(dim=0)
    return norms


def _physical_batches(units: Sequence[torch.Tensor], most: int) -> Iterator[list[torch.Tensor]]:
    """Consecutive units of together at most ``most`` rows, or one alone that has more."""
    batch: list[torch.Tensor] = []
    for rows in units:
        if batch and sum(map(len, batch)) + len(rows) > most:
            yield batch
            batch = []
        batch.append(rows)
    if batch:
        yield batch
