"""kill -9 at any point: what was paid stays paid, and nothing else has to be known to go on."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import dp_accounting
import pytest
from dp_accounting.rdp import RdpAccountant

from fedmedpeft.privacy.accountant import Spending, epsilon
from fedmedpeft.privacy.ledger import Ledger
from fedmedpeft.privacy.ledger_lines import Spent
from fedmedpeft.privacy.renyi import ORDERS
from tests.killed_writer import told_until_killed

# So much noise that for any history which can come up here the best order is a whole number: the independent accountant
# has no fractional ones (test_accountant.py checks those against integrals).
_KINDS = (Spending(12.0, 0.02, 3), Spending(9.0, 0.05, 1), Spending(80.0, 1.0, 2))
_KILLS = 40


def _open(path: Path) -> Ledger:
    return Ledger.open(path, data_hash="a1" * 32, unit="record", units=500, delta=1e-5)


def _visit(path: Path, run: str, tell: Callable[[int], None]) -> None:
    """A site's process: each number is told after its spending has returned."""
    ledger = _open(path)
    for number in count():
        kind = _KINDS[number % len(_KINDS)]
        ledger.plan(f"{run}-{number}", kind)
        ledger.spend(run, number, kind, budget=math.inf)
        tell(number)


@pytest.mark.parametrize("seed", [0, 1])
def test_whatever_is_killed_stays_paid(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "Basel.ledger.jsonl"
    epsilon(_KINDS, 1e-5)  # computed once, so that a child's time goes into writing
    draw = random.Random(seed)
    returned: list[tuple[str, int]] = []
    for kill in range(_KILLS):
        numbers = told_until_killed(partial(_visit, path, str(kill)), draw.randrange(3), draw.uniform(0, 0.05))
        returned += [(str(kill), number) for number in numbers]
    ledger = _open(path)
    spent = [(entry.run, entry.round) for entry in ledger.entries if isinstance(entry, Spent)]
    assert len(returned) > _KILLS / 2
    assert len(set(spent)) == len(spent)
    assert set(returned) <= set(spent)
    for kill in range(_KILLS):
        assert sum(run == str(kill) for run, _ in spent) <= sum(run == str(kill) for run, _ in returned) + 1
    assert ledger.history == tuple(_KINDS[number % len(_KINDS)] for _, number in spent)
    assert ledger.epsilon() == pytest.approx(_independent(ledger.history), rel=1e-3)


def _independent(history: tuple[Spending, ...]) -> float:
    accountant = RdpAccountant(orders=[int(order) for part in ORDERS for order in part if order == int(order)])
    for kind in set(history):
        event = dp_accounting.PoissonSampledDpEvent(
            kind.sample_rate, dp_accounting.GaussianDpEvent(kind.noise_multiplier)
        )
        accountant.compose(event, kind.steps * history.count(kind))
    return float(accountant.get_epsilon(1e-5))
