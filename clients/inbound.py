"""What a site lets the server's state be, beyond the contract: not further from what it knows than training explains.

A server that wants to read a site's images out of its update chooses the state that it sends (Fowl et al., Robbing the
Fed, ICLR 2022; PEFTLeak, CVPR 2025, for adapters). Such states lie far from any that training leads to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from fedmedpeft.exchange import ContractError, PeftState

_LAST, _ROUND, _REACH = "accepted/", "inbound/round", "inbound/reach"


def moved(state: PeftState, anchors: tuple[PeftState, ...]) -> float:
    """Euclidean distance, each tensor measured from the nearest of ``anchors`` (which have all its tensors)."""
    known = [anchor.tensors() for anchor in anchors]
    squares = [
        min(float(np.square(values.astype(np.float64) - tensors[name]).sum()) for tensors in known)
        for name, values in state.tensors().items()
    ]
    return math.sqrt(sum(squares))


@dataclass(frozen=True)
class Inbound:
    """The check of one site, with what it remembers in its store.

    Args:
        factor: how much further than the site's own largest update the state may move in a round; 0: any distance.
        initial: where all sites started.
    """

    factor: float
    initial: PeftState

    def check(
        self, state: PeftState, round_: int, kept: Mapping[str, torch.Tensor], reach: Callable[[], float]
    ) -> None:
        """Compare a state that arrived with the one before it.

        The state of round 1 is the one that every site started from. A site without memory of this run (it lost its
        store, or comes late) compares with that one too: otherwise a server would only have to start with round 2.

        Args:
            state: the whole of it.
            round_: of the request.
            kept: what the store has, :meth:`remembered` of an earlier visit among it.
            reach: how far this site moves the initial state in one round; asked for where it has no memory.

        Raises:
            ContractError: it moved further than it may.
        """
        if not self.factor:
            return
        start = self.initial.only(state.manifest)
        if round_ == 1:
            if state.hash() != start.hash():
                raise ContractError("the state of round 1 is not the one that all sites start from")
            return
        last = {name.removeprefix(_LAST): tensor.numpy() for name, tensor in kept.items() if name.startswith(_LAST)}
        anchors = (PeftState.from_tensors(state.manifest, last), start) if last else (start,)
        distance, rounds = moved(state, anchors), round_ - int(kept[_ROUND] if last else 1)
        if not distance:
            return
        bound = self.factor * (float(kept[_REACH]) if last else reach()) * max(1, rounds)
        if distance > bound:
            raise ContractError(
                f"the state moved by {distance:.3g} since this site's last visit, and training explains {bound:.3g} "
                f"(inbound-factor={self.factor:g})"
            )

    def remembered(
        self, received: PeftState, sent: PeftState, round_: int, kept: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """What the store must keep of this visit: the state that came, and how far the site itself moved it."""
        if not self.factor:
            return {}
        step = moved(sent, (received.only(sent.manifest),))
        reach = max(step, float(kept.get(_REACH, 0.0)))
        state = {f"{_LAST}{name}": torch.tensor(values) for name, values in received.tensors().items()}
        return state | {_ROUND: torch.tensor(round_), _REACH: torch.tensor(reach, dtype=torch.float64)}
