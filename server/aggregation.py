"""From vetted updates to the next global state, by one of Flower's strategies."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedAvgM
from flwr.serverapp.strategy.fedopt import FedOpt
from numpy.typing import NDArray

from fedmedpeft.exchange import Contract, ContractError, Manifest, PeftState
from fedmedpeft.exchange.flower import VISIT
from fedmedpeft.exchange.peft_state import Vector
from server.client_privacy import ClientPrivacy
from server.strategies import WEIGHT
from server.strategy_memory import memory_of, recall

Weighting = Literal["samples", "sqrt", "uniform"]


@dataclass(frozen=True)
class Update:
    """One site's accepted answer: its trained state and its number of training images.

    ``within``: what it says of the clip, where an adaptive one asks it (see :class:`VisitReply`).
    """

    site: str
    state: PeftState
    samples: int
    within: bool | None = None


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

    Args:
        strategy: Flower's.
        contract: of the global state.
        weighting: how sites weigh.
        private: with privacy of whole sites, what makes one update of theirs, the only one that the strategy sees.
    """

    def __init__(
        self, strategy: FedAvg, contract: Contract, weighting: Weighting, private: ClientPrivacy | None = None
    ) -> None:
        self._strategy = strategy
        self._contract = contract
        self._weighting = weighting
        self._private = private

    def memory(self) -> dict[str, NDArray[Any]]:
        """What the strategy remembers, as named arrays; empty where it remembers nothing."""
        return memory_of(self._strategy)

    def recall(self, memory: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what :meth:`memory` gave."""
        recall(self._strategy, memory)

    def aggregate(self, round_: int, state: PeftState, updates: Sequence[Update]) -> PeftState:
        """The next global state. The order of ``updates`` does not matter: they are taken by site name.

        Updates may hold only a part of the tensors: each is aggregated over the sites that sent it, and one that nobody
        sent stays as it is.

        Raises:
            ContractError: the result is not finite or above the norm ceiling. State and optimiser stay as they were;
                what privacy of whole sites has spent on it stays spent.
        """
        if self._private:
            states = {update.site: update.state for update in updates}
            said = {update.site: update.within for update in updates}
            updates = [Update("all sites", self._private.mean(round_, state, states, said), samples=1)]
        # Flower's strategies replace their moments and never change them in place: a shallow copy can be thrown away.
        attempt = copy.copy(self._strategy)
        with _quiet_flower(), np.errstate(over="ignore", invalid="ignore"):
            for manifest, senders in _shares(state.manifest, sorted(updates, key=lambda update: update.site)):
                state = state.updated(self._aggregated(attempt, round_, state.only(manifest), senders))
        admitted = self._contract.admit(state.encode())
        self._strategy = attempt
        return admitted

    def _aggregated(self, strategy: FedAvg, round_: int, state: PeftState, updates: Sequence[Update]) -> PeftState:
        """``state``, which all ``updates`` hold, moved by what ``strategy`` makes of their differences to it."""
        _set_current(strategy, state)
        arrays, _ = strategy.aggregate_train(round_, [self._reply(state, update) for update in updates])
        if arrays is None:
            raise ContractError("the strategy gave no result")
        return PeftState(
            state.manifest,
            {
                part: (vector.astype(np.float64) + arrays[part].numpy()).astype(np.float32)
                for part, vector in state.vectors.items()
            },
        )

    def _reply(self, state: PeftState, update: Update) -> Message:
        """What the strategy gets to see of a site: exactly one ArrayRecord and one MetricRecord."""
        sent = update.state.only(state.manifest)
        deltas: dict[str, Array] = {part: Array(sent.vectors[part] - vector) for part, vector in state.vectors.items()}
        weight = weight_of(update.samples, self._weighting)
        content = RecordDict({"arrays": ArrayRecord(deltas), "metrics": MetricRecord({WEIGHT: weight})})
        return Message(content, 1, VISIT)


def _shares(manifest: Manifest, updates: Sequence[Update]) -> Iterator[tuple[Manifest, list[Update]]]:
    """Tensors that the same updates hold, and these updates; one share where all hold everything."""
    held = [{spec.name for spec in update.state.manifest.tensors} for update in updates]
    names: dict[tuple[int, ...], set[str]] = {}
    for spec in manifest.tensors:
        holders = tuple(index for index, tensors in enumerate(held) if spec.name in tensors)
        names.setdefault(holders, set()).add(spec.name)
    for holders, shared in names.items():
        if holders:
            yield manifest.only(shared), [updates[index] for index in holders]


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
