"""What a site trains, over the classes of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedmedpeft.exchange import PeftState
from fedmedpeft.learner import Learner


@dataclass(frozen=True)
class SiteModel:
    """A learner and where it starts.

    Attributes:
        learner: shared in simulation; every request writes its own site's state into it first.
        initial: every trainable of ``learner`` as it was built, where all sites start.
    """

    learner: Learner
    initial: PeftState


Models = Callable[[tuple[str, ...]], SiteModel]
"""Gives the model over some classes. Building it takes seconds, so it is asked for once they are known."""
