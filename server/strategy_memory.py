"""What Flower's strategies remember from round to round, as named arrays, and back.

Averages, medians and Krum remember nothing. FedAvgM has its momentum; FedAdam, FedYogi and FedAdagrad have two moments.
Where the federation stands (``current_arrays``) is told to them before each round, and is no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.serverapp.strategy import FedAvg, FedAvgM
from flwr.serverapp.strategy.fedopt import FedOpt
from numpy.typing import NDArray

_MOMENTS = ("m_t", "v_t")
_MOMENTUM = "momentum"


def memory_of(strategy: FedAvg) -> dict[str, NDArray[Any]]:
    """By name; empty without a memory, and before the first round."""
    if isinstance(strategy, FedOpt):
        moments = {name: getattr(strategy, name) or {} for name in _MOMENTS}
        return {f"{name}/{part}": array for name, parts in moments.items() for part, array in parts.items()}
    if isinstance(strategy, FedAvgM):
        # In the order of the parts: FedAvgM drops their names.
        return {f"{_MOMENTUM}/{index:04d}": array for index, array in enumerate(strategy.momentum_vector or ())}
    return {}


def recall(strategy: FedAvg, memory: Mapping[str, NDArray[Any]]) -> None:
    """Give a new strategy what :func:`memory_of` took from one of its kind."""
    if not memory:
        return
    if isinstance(strategy, FedOpt):
        for name in _MOMENTS:
            setattr(strategy, name, _below(name, memory))
    elif isinstance(strategy, FedAvgM):
        strategy.momentum_vector = list(_below(_MOMENTUM, memory).values())


def _below(name: str, memory: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): memory[key] for key in sorted(memory) if key.startswith(prefix)}
