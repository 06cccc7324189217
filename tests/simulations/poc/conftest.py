from __future__ import annotations

from pathlib import Path

import pytest

from simulations.poc.plan import Plan
from simulations.poc.stage import Stage, set_up
from simulations.poc.teller import Teller


@pytest.fixture(scope="session")
def plan() -> Plan:
    """Three small sites of phantoms (synthetic), with events."""
    return Plan.make("phantoms(scanners=3, images=60, size=32)", 3, 3, events=True)


@pytest.fixture
def stage(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    # A test's directory is longer than a socket's path may be, and nothing listens in these tests.
    monkeypatch.setattr("simulations.poc.stage._LONGEST_SOCKET", 1000)
    return set_up(plan, tmp_path / "work")


@pytest.fixture
def told() -> list[str]:
    """What a teller showed."""
    return []


@pytest.fixture
def teller(tmp_path: Path, told: list[str]) -> Teller:
    return Teller(tmp_path / "poc.log", told.append)
