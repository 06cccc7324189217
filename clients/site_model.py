"""What a site trains, over the classes of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedmedpeft.backbones import Backbone
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import PeftState
from fedmedpeft.learner import Learner, build_learner
from fedmedpeft.starting_state import load_start


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


def models_of(config: RunConfig, backbone: Backbone) -> Models:
    """Models of one run over ``backbone``, which is loaded already; only the last one that was asked for is kept."""
    unused: list[Backbone] = [backbone]
    made: dict[tuple[str, ...], SiteModel] = {}

    def model(classes: tuple[str, ...]) -> SiteModel:
        if classes not in made:
            made.clear()
            # A learner changes the backbone that it is built around: another one needs another.
            learner = build_learner(config, classes, unused.pop() if unused else None)
            load_start(learner, config)
            made[classes] = SiteModel(learner, learner.export(learner.manifest()))
        return made[classes]

    return model
