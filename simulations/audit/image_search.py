"""Images found by gradient descent: pixel by pixel with a prior for smooth ones, or among mixtures of public images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from simulations.audit.public_images import Span

Objective = Callable[[torch.Tensor], torch.Tensor]
"""Images [B, 3, S, S] in 0..1 -> what is to be small, a scalar."""


@dataclass(frozen=True)
class Search:
    """How to look.

    Attributes:
        steps: of Adam, with a step size that falls to zero along half a cosine.
        rate: largest step size, in units of what is searched.
        penalty: weight of what makes an image unlikely: total variation, or distance from the public mean.
    """

    steps: int
    rate: float
    penalty: float


def search_pixels(objective: Objective, start: torch.Tensor, search: Search) -> torch.Tensor:
    """Images in 0..1 begun at ``start`` [B, 3, S, S], with total variation as the penalty."""
    found = _descend(lambda images: objective(images) + search.penalty * total_variation(images), start, search, (0, 1))
    return found


def search_span(objective: Objective, span: Span, start: torch.Tensor, search: Search) -> torch.Tensor:
    """Images [B, 3, S, S] of ``span`` begun at coordinates ``start`` [B, K], their mean square the penalty."""

    def whole(coordinates: torch.Tensor) -> torch.Tensor:
        return objective(span.images(coordinates)) + search.penalty * coordinates.square().mean()

    return span.images(_descend(whole, start, search))


def total_variation(images: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbouring pixels, down and across."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
    across = (images[..., :, 1:] - images[..., :, :-1]).abs().mean()
    return down + across


def _descend(
    whole: Objective, start: torch.Tensor, search: Search, within: tuple[float, float] | None = None
) -> torch.Tensor:
    """The best point that Adam passes from ``start``, never outside ``within``."""
    point = start.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([point], lr=search.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, search.steps)
    best, best_value = start.detach().clone(), float("inf")
    for _ in range(search.steps):
        value = whole(point)
        if float(value.detach()) < best_value:
            best, best_value = point.detach().clone(), float(value.detach())
        (point.grad,) = torch.autograd.grad(value, point)
        optimiser.step()
        schedule.step()
        if within:
            with torch.no_grad():
                point.clamp_(*within)
    return best
