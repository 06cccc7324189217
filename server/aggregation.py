"""From vetted updates to the next global state, by one of Flower's strategies."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedAvgM
from flwr.serverapp.strategy.fedopt import FedOpt

from fedmedpeft.exchange import Contract, ContractError, EncodedState, PeftState
from fedmedpeft.exchange.flower import VISIT
from fedmedpeft.exchange.peft_state import Vector
from server.strategies import WEIGHT

Weighting = Literal["samples", "sqrt", "uniform"]


@dataclass(frozen=True)
class Update:
    """One site's accepted answer: its trained state and its number of training images."""

    site: str
    state: PeftState
    samples: int


def weight_of(samples: int, weighting: Weighting) -> float:
    """A site's weight, before the weights are scaled to 1.

    >>> weight_of(100, "sqrt")
    10.0
    """
    return {"samples": float(samples), "sqrt": math.sqrt(samples), "uniform": 1.0}[weighting]


class Aggregator:
    """Applies a strategy round by round and owns its optimiser state.

    Strategies see differences to the global state rather than states. All of them commute with that shift, and it keeps
    float32 exact where it matters: Krum's distances between large, nearly equal states would drown in rounding.
    """

    def __init__(self, strategy: FedAvg, contract: Contract, weighting: Weighting) -> None:
        self._strategy = strategy
        self._contract = contract
        self._weighting = weighting

    def aggregate(self, round_: int, state: PeftState, updates: Sequence[Update]) -> PeftState:
        """The next global state. The order of ``updates`` does not matter: they are taken by site name.

        Raises:
            ContractError: the result is not finite or above the norm ceiling. State and optimiser stay as they were.
        """
        # Flower's strategies replace their moments and never change them in place: a shallow copy can be thrown away.
        attempt = copy.copy(self._strategy)
        _set_current(attempt, state)
        replies = [self._reply(state, update) for update in sorted(updates, key=lambda update: update.site)]
        with _quiet_flower(), np.errstate(over="ignore", invalid="ignore"):
            arrays, _ = attempt.aggregate_train(round_, replies)
            if arrays is None:
                raise ContractError("the strategy gave no result")
            vectors: dict[str, Vector] = {
                part: (vector.astype(np.float64) + arrays[part].numpy()).astype(np.float32)
                for part, vector in state.vectors.items()
            }
        admitted = self._contract.admit(EncodedState(self._contract.manifest.hash, vectors))
        self._strategy = attempt
        return admitted

    def _reply(self, state: PeftState, update: Update) -> Message:
        """What the strategy gets to see of a site: exactly one ArrayRecord and one MetricRecord."""
        deltas: dict[str, Array] = {
            part: Array(update.state.vectors[part] - vector) for part, vector in state.vectors.items()
        }
        weight = weight_of(update.samples, self._weighting)
        content = RecordDict({"arrays": ArrayRecord(deltas), "metrics": MetricRecord({WEIGHT: weight})})
        return Message(content, 1, VISIT)


def _set_current(strategy: FedAvg, state: PeftState) -> None:
    """Tell strategies with a memory where the federation stands: at zero difference to itself."""
    zeros: dict[str, Vector] = {part: np.zeros_like(vector) for part, vector in state.vectors.items()}
    if isinstance(strategy, FedOpt):
        strategy.current_arrays = zeros
    elif isinstance(strategy, FedAvgM):
        strategy.current_arrays = ArrayRecord({part: Array(zero) for part, zero in zeros.items()})


@contextmanager
def _quiet_flower() -> Iterator[None]:
    """Strategies log a line for every call; the round table says the same and more."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
