from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import load, save

from fedmedpeft.exchange import Contract, Manifest, PeftState, TensorSpec
from server.aggregation import Aggregator, Update
from server.strategies import STRATEGIES, build_strategy

MANIFEST = Manifest.of([TensorSpec("a", (3,), "method"), TensorSpec("b", (2, 2), "head")])


@pytest.fixture(autouse=True)
def _flower_runtime() -> None:
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


def state(seed: int) -> PeftState:
    rng = np.random.default_rng(seed)
    return PeftState.from_tensors(MANIFEST, {s.name: rng.standard_normal(s.shape) for s in MANIFEST.tensors})


def aggregator(name: str) -> Aggregator:
    return Aggregator(build_strategy(name), Contract(MANIFEST), "uniform")


def after(made: Aggregator, start: PeftState, rounds: range) -> PeftState:
    for round_ in rounds:
        start = made.aggregate(round_, start, [Update(f"s{i}", state(10 * round_ + i), 1) for i in range(5)])
    return start


def comparable(value: Any) -> Any:
    if isinstance(value, ArrayRecord):
        value = {key: array.numpy() for key, array in value.items()}
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return (value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_a_new_strategy_goes_on_as_the_old_one(name: str) -> None:
    """All that aggregation changes in a strategy is compared, so that what a new Flower adds is noticed here."""
    old, new = aggregator(name), aggregator(name)
    middle = after(old, state(0), range(1, 4))
    new.recall(load(save(old.memory())) if old.memory() else {})
    for made in (old, new):
        after(made, middle, range(4, 5))
    mine, theirs = ({k: comparable(v) for k, v in vars(made._strategy).items()} for made in (old, new))
    assert mine == theirs
    assert after(old, middle, range(5, 6)).hash() == after(new, middle, range(5, 6)).hash()


@pytest.mark.parametrize(
    ("name", "count"), [("fedavg", 0), ("krum", 0), ("fedavgm", 2), ("fedadam", 4), ("fedyogi", 4)]
)
def test_who_remembers_what(name: str, count: int) -> None:
    made = aggregator(name)
    assert made.memory() == {}
    after(made, state(0), range(1, 2))
    assert len(made.memory()) == count


def test_without_its_memory_it_would_not_go_on_so() -> None:
    old, new = aggregator("fedavgm"), aggregator("fedavgm")
    middle = after(old, state(0), range(1, 3))
    assert after(old, middle, range(3, 4)).hash() != after(new, middle, range(3, 4)).hash()
