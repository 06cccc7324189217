from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.preflight.announced_run import check_settings
from clients.preflight.budget import check_budget
from clients.preflight.check import Result
from clients.preflight.facts import Facts
from clients.preflight.own_data import check_counts, check_data
from fedmedpeft.config import RunConfig
from fedmedpeft.privacy.accountant import Spending
from fedmedpeft.privacy.ledger import Ledger
from tests.clients.preflight.hospital_files import CLASSES, image_rows


@pytest.fixture
def look(facts_of: Callable[..., Facts], make_images: Callable[..., str]) -> Callable[..., Result]:
    source = make_images(image_rows(40))

    def run(privacy: str, rounds: int = 5, **changes: Any) -> Result:
        facts = facts_of(privacy=privacy, data={"source": source, "classes": list(CLASSES)}, **changes)
        facts.announced = RunConfig.from_mapping({"rounds": rounds, "batch-size": 8})
        check_settings(facts)
        check_data(facts)
        check_counts(facts)
        return check_budget(facts)

    return run


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger" / "hospital-a.ledger.jsonl"


def _spend(path: Path, steps: int, unit: Any = "patient") -> Ledger:
    ledger = Ledger.open(path, data_hash="a" * 64, unit=unit, units=24)
    ledger.spend("earlier", 1, Spending(1.0, 0.33, steps), budget=100)
    return ledger


def test_without_privacy(look: Callable[..., Result]) -> None:
    assert "privacy is off" in look("off").text


def test_nothing_spent_yet(look: Callable[..., Result], ledger: Path) -> None:
    result = look("required(epsilon=8)")
    assert (result.status, "epsilon 0 of 8 per patient" in result.text) == ("pass", True), result.text
    assert not ledger.exists()
    assert "per record" in look("required(epsilon=8, unit=record)").text
    assert "auto" in look("auto(epsilon=8)").text


def test_what_was_spent_counts(look: Callable[..., Result], ledger: Path) -> None:
    spent = _spend(ledger, 5)
    before = ledger.read_bytes()
    result = look(f"required(epsilon={spent.epsilon() * 3})")
    assert (result.status, f"epsilon {spent.epsilon():.3g} of" in result.text) == ("pass", True), result.text
    used_up = look(f"required(epsilon={spent.epsilon() * 0.99})")
    assert (used_up.status, "does not pay for 5 rounds" in used_up.text) == ("fail", True), used_up.text
    assert ledger.read_bytes() == before
    silent = look(f"required(epsilon={spent.epsilon() * 3}, report=false)")
    assert f"{spent.epsilon():.3g}" not in silent.text


def test_much_noise(look: Callable[..., Result]) -> None:
    result = look("required(epsilon=0.3)", rounds=100)
    assert (result.status, "little is learnt" in result.text) == ("warn", True), result.text


def test_a_ledger_of_another_unit(look: Callable[..., Result], ledger: Path) -> None:
    _spend(ledger, 5, unit="record")
    assert look("required(epsilon=50)").status == "fail"


@pytest.mark.parametrize("lost", [False, True])
def test_a_ledger_that_was_tampered_with(look: Callable[..., Result], ledger: Path, lost: bool) -> None:
    _spend(ledger, 5)
    if lost:
        ledger.unlink()
    else:
        ledger.write_text(ledger.read_text().replace('"steps":5', '"steps":1').replace('"steps": 5', '"steps": 1'))
    result = look("required(epsilon=50)")
    assert (result.status, str(ledger) in result.text) == ("fail", False), result
