"""Means of a few small states under privacy of whole sites, with and without noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from fedmedpeft.exchange import Manifest, PeftState, TensorSpec
from fedmedpeft.privacy.client_level import client_level
from fedmedpeft.privacy.randomness import Randomness
from server.client_privacy import ClientPrivacy

MANIFEST = Manifest.of([TensorSpec("blocks.0.q.a", (3, 4), "method"), TensorSpec("head.bias", (5,), "head")])
Dense = np.ndarray


class Silent:
    """No noise: what is left is the mean itself."""

    def uniform(self, count: int) -> torch.Tensor:
        return torch.zeros(count, dtype=torch.float64)

    def normal(self, shape: Sequence[int], *, std: float, device: torch.device | str = "cpu") -> torch.Tensor:
        return torch.zeros(*shape)


def privacy(spec: str, randomness: Randomness | None = None) -> ClientPrivacy:
    level = client_level(spec)
    assert level is not None
    return ClientPrivacy(level, randomness or Silent())


def dense(state: PeftState) -> Dense:
    return np.concatenate([state.vectors["method"], state.vectors["head"]]).astype(np.float64)


def state_from(values: Dense) -> PeftState:
    values = np.asarray(values, dtype=np.float32)
    return PeftState(MANIFEST, {"method": values[:12], "head": values[12:]})


def mean_of(private: ClientPrivacy, start: PeftState, answers: Mapping[str, PeftState], round_: int = 1) -> Dense:
    """What the round moves ``start`` by."""
    moved = private.mean(round_, start, answers, dict.fromkeys(answers))
    return dense(moved) - dense(start)


def updates(scale: float, sites: int = 4, seed: int = 0) -> list[Dense]:
    return list(scale * np.random.default_rng(seed).standard_normal((sites, 17)))


def answers_of(start: PeftState, moves: Sequence[Dense]) -> dict[str, PeftState]:
    return {f"site-{index}": state_from(dense(start) + move) for index, move in enumerate(moves)}


ZERO = state_from(np.zeros(17))
