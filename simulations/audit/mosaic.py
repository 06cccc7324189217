"""From tokens that were read out of an update to an image: each at its position, and smooth where none was read."""

from __future__ import annotations

import torch
from torch.nn.functional import huber_loss

from fedmedpeft.learner import Learner
from simulations.audit.adapter_tap import AdapterTap
from simulations.audit.image_search import Search, search_pixels
from simulations.audit.token_places import TokenPlaces

_OUTLYING = 3.0
"""A token that the found image misses by more than this times the median is no single token after all."""


def image_of_tokens(
    learner: Learner, tap: AdapterTap, tokens: torch.Tensor, places: TokenPlaces, start: torch.Tensor, search: Search
) -> torch.Tensor:
    """The image [1, 3, S, S] in which the tokens [K, d] that reach ``tap`` lie where ``places`` finds them.

    Searched twice: the second time without the tokens that the first image could not explain.

    Args:
        learner: in its initial state, in which what reaches ``tap`` depends on the pixels and the pinned backbone.
        start: [1, 3, S, S]. What is no token of any position is left out; without any it is the answer.
    """
    position, distance = places.find(tokens)
    kept = distance <= places.far
    if not kept.any():
        return start
    wanted, position = tokens[kept].float(), position[kept]

    def errors(image: torch.Tensor) -> torch.Tensor:
        return (tap.tokens(learner, image)[0, position] - wanted) / places.spread.float()

    def apart(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        error = errors(image)
        return (weight[:, None] * huber_loss(error, torch.zeros_like(error), reduction="none")).mean()

    first = search_pixels(lambda image: apart(image, torch.ones(len(wanted))), start, search)
    missed = errors(first).detach().norm(dim=1)
    explained = (missed <= _OUTLYING * missed.median()).float()
    return search_pixels(lambda image: apart(image, explained), first, search)
