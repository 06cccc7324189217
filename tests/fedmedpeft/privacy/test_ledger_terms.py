from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.privacy.accountant import epsilon
from fedmedpeft.privacy.ledger import Ledger, LedgerError
from fedmedpeft.privacy.ledger_lines import Adopted
from tests.fedmedpeft.privacy.ledgers import DATA, OTHER_DATA, ROUND, files_beside, open_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sites" / "Basel.ledger.jsonl"


@pytest.mark.parametrize("delta", [0.0, -1e-6, 1 / 500, 0.5, math.nan])
def test_delta_must_be_below_one_over_the_units(path: Path, delta: float) -> None:
    with pytest.raises(
        LedgerError, match=r"below 1/n = 0\.002, n being 500 patients.*Take 1/\(10 n\) = 0\.0002"
    ) as caught:
        open_ledger(path, delta=delta)
    assert "delta" in caught.value.public
    assert not path.exists()


def test_delta_is_a_tenth_of_one_over_n_or_the_ledgers_own(path: Path) -> None:
    assert open_ledger(path, delta=None).delta == 1 / 5000
    assert open_ledger(path, delta=None, units=400).delta == 1 / 5000
    with pytest.raises(LedgerError, match="train on fewer"):
        open_ledger(path, delta=None, units=5000)


def test_a_data_set_without_units_is_refused(path: Path) -> None:
    with pytest.raises(LedgerError, match="nothing to train on"):
        open_ledger(path, units=0, delta=None)


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        ({"data_hash": OTHER_DATA}, rf"changed.*privacy adopt '.*' --data-hash {OTHER_DATA} --units 500 --reason"),
        ({"unit": "image"}, "per patient, and this run would per image.*Set unit='patient'"),
        ({"delta": 1e-6}, r"has delta=1e-05, and this run asks for 1e-06.*Set delta=1e-05"),
    ],
)
def test_a_ledger_of_something_else_is_refused(path: Path, change: dict[str, Any], mend: str) -> None:
    open_ledger(path).spend("run", 1, ROUND, budget=8.0)
    before = files_beside(path)
    with pytest.raises(LedgerError, match=mend) as caught:
        open_ledger(path, **change)
    assert files_beside(path) == before
    assert str(path) not in caught.value.public
    assert not any(text[:8] in caught.value.public for text in (DATA, OTHER_DATA))


def test_an_adopted_data_set_goes_on_with_what_was_spent(path: Path) -> None:
    spent = open_ledger(path).spend("run", 1, ROUND, budget=8.0)
    Ledger.read(path).adopt(OTHER_DATA, "two scans relabelled", units=510)
    with pytest.raises(LedgerError, match="data set changed"):
        open_ledger(path)
    ledger = open_ledger(path, data_hash=OTHER_DATA)
    assert (ledger.epsilon(), ledger.unit, ledger.delta, ledger.units) == (spent, "patient", 1e-5, 510)
    line = ledger.entries[-1]
    assert isinstance(line, Adopted)
    assert line.reason == "two scans relabelled"
    assert ledger.spend("run", 2, ROUND, budget=8.0) == epsilon([ROUND, ROUND], 1e-5)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((DATA, "none"), "about that data set already"),
        ((OTHER_DATA, "  "), "reason"),
        (("", "a reason"), "hash"),
    ],
)
def test_nothing_is_adopted_without_a_change_and_a_reason(path: Path, arguments: tuple[str, str], why: str) -> None:
    ledger = open_ledger(path)
    with pytest.raises(LedgerError, match=why):
        ledger.adopt(*arguments)
    assert len(Ledger.read(path).entries) == 1


def test_a_data_set_too_large_for_the_ledgers_delta_is_not_adopted(path: Path) -> None:
    with pytest.raises(LedgerError, match="below 1/n"):
        open_ledger(path).adopt(OTHER_DATA, "ten new hospitals", units=200_000)


def test_a_data_set_adopted_meanwhile_is_not_paid_for_by_the_old_one(path: Path) -> None:
    training = open_ledger(path)
    Ledger.read(path).adopt(OTHER_DATA, "relabelled")
    with pytest.raises(LedgerError, match="data set changed"):
        training.spend("run", 1, ROUND, budget=8.0)
