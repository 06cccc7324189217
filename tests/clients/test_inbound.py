from __future__ import annotations

import numpy as np
import pytest
import torch

from clients.inbound import Inbound, moved
from fedmedpeft.exchange import ContractError, PeftState
from fedmedpeft.exchange.manifest import Manifest, TensorSpec

_MANIFEST = Manifest.of([TensorSpec("a", (2,), "method"), TensorSpec("b", (2,), "head")])


def _state(a: float, b: float) -> PeftState:
    return PeftState.from_tensors(_MANIFEST, {"a": np.full(2, a, np.float32), "b": np.full(2, b, np.float32)})


_INITIAL = _state(0.0, 0.0)
_INBOUND = Inbound(10.0, _INITIAL)


def _reach() -> float:
    return moved(_state(0.1, 0.0), (_INITIAL,))


def _after(received: PeftState, sent: PeftState, round_: int) -> dict[str, torch.Tensor]:
    return _INBOUND.remembered(received, sent, round_, {})


def test_round_1_brings_the_state_that_all_start_from() -> None:
    _INBOUND.check(_state(0.0, 0.0), 1, {}, _reach)
    with pytest.raises(ContractError, match="round 1"):
        _INBOUND.check(_state(0.0, 1e-6), 1, {}, _reach)


def test_a_state_may_move_as_far_as_training_explains() -> None:
    kept = _after(_INITIAL, _state(0.1, 0.0), 1)
    _INBOUND.check(_state(0.99, 0.0), 2, kept, _reach)
    with pytest.raises(ContractError, match="moved by"):
        _INBOUND.check(_state(1.01, 0.0), 2, kept, _reach)


def test_missed_rounds_count() -> None:
    kept = _after(_INITIAL, _state(0.1, 0.0), 1)
    _INBOUND.check(_state(1.9, 0.0), 3, kept, _reach)
    with pytest.raises(ContractError, match="moved by"):
        _INBOUND.check(_state(2.1, 0.0), 3, kept, _reach)


def test_the_largest_update_so_far_is_the_measure() -> None:
    kept = _after(_INITIAL, _state(0.1, 0.0), 1)
    kept = _INBOUND.remembered(_state(0.1, 0.0), _state(0.11, 0.0), 2, kept)
    _INBOUND.check(_state(1.0, 0.0), 3, kept, _reach)


def test_a_tensor_may_go_back_to_its_start() -> None:
    """As where a method trains another part in each round and what it learned does not last."""
    kept = _after(_state(5.0, 5.0), _state(5.1, 5.0), 2)
    _INBOUND.check(_state(0.0, 5.0), 3, kept, _reach)
    assert moved(_state(0.0, 5.0), (_state(5.0, 5.0), _INITIAL)) == 0.0


def test_a_late_site_compares_with_the_start() -> None:
    """Otherwise a hostile server would only have to begin with a later round."""
    _INBOUND.check(_state(3.9, 0.0), 5, {}, _reach)
    with pytest.raises(ContractError, match="moved by"):
        _INBOUND.check(_state(4.1, 0.0), 5, {}, _reach)


def test_off() -> None:
    off = Inbound(0.0, _INITIAL)
    off.check(_state(100.0, 0.0), 1, {}, _reach)
    assert off.remembered(_INITIAL, _INITIAL, 1, {}) == {}
