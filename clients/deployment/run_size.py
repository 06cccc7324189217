"""What a run's method and head would take of this machine's memory, before they take it."""

from __future__ import annotations

from functools import lru_cache

from clients.site_model import Models, SiteModel
from fedmedpeft.backbones import BackboneRecord, skeleton
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Refusal, SiteError
from fedmedpeft.learner import learner_skeleton

_FLOAT = 4


def within(most: int, models: Models, config: RunConfig, record: BackboneRecord) -> Models:
    """``models``, but a method and a head of more than ``most`` bytes are refused before they are made.

    A rank of a thousand millions is a short text, and would end the worker. It is counted without weights.
    """

    @lru_cache(maxsize=1)
    def added(classes: tuple[str, ...]) -> int:
        learner = learner_skeleton(record, config.method, classes, config.task)
        numbers = sum(tensor.numel() for tensor in (*learner.parameters(), *learner.buffers()))
        own = skeleton(record).original_parameters().values()
        return _FLOAT * (numbers - sum(parameter.numel() for parameter in own))

    def model(classes: tuple[str, ...]) -> SiteModel:
        if added(classes) > most:
            raise SiteError(
                Refusal.POLICY,
                f"policy: method and head would take {added(classes):.3g} bytes, more than may leave in a message "
                f"(most-bytes: {most})",
            )
        return models(classes)

    return model
