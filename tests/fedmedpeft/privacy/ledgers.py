"""A ledger of a data set, and what lies in its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedmedpeft.privacy.accountant import Spending
from fedmedpeft.privacy.ledger import Ledger

ROUND = Spending(1.0, 0.05, 10)
DATA, OTHER_DATA = "a1" * 32, "b2" * 32


def open_ledger(path: Path, **changes: Any) -> Ledger:
    terms: dict[str, Any] = {"data_hash": DATA, "unit": "patient", "units": 500, "delta": 1e-5}
    return Ledger.open(path, **(terms | changes))


def files_beside(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}
