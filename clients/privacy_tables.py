"""What privacy ledgers hold, as records for JSON and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedmedpeft.console_table import show_table
from fedmedpeft.privacy.ledger import Ledger
from fedmedpeft.privacy.ledger_lines import Spent

_LINE = (
    "time",
    "kind",
    "run",
    "round",
    "noise_multiplier",
    "sample_rate",
    "steps",
    "epsilon_after",
    "version",
    "about",
)


def overview(ledger: Ledger, *, lines: bool) -> dict[str, Any]:
    """One ledger: what it is about, what was spent, and, with ``lines``, each of its lines."""
    spent = [entry for entry in ledger.entries if isinstance(entry, Spent)]
    found = {
        "ledger": str(ledger.path),
        "data_hash": ledger.data_hash,
        "unit": ledger.unit,
        "units": ledger.units,
        "delta": ledger.delta,
        "runs": len({entry.run for entry in spent}),
        "rounds": len({(entry.run, entry.round) for entry in spent}),
        "steps": sum(entry.steps for entry in spent),
        "epsilon_rdp": ledger.epsilon("rdp"),
        "epsilon_prv": ledger.epsilon("prv"),
        "last_spent": spent[-1].time if spent else None,
    }
    return found | ({"lines": [entry.model_dump() for entry in ledger.entries]} if lines else {})


def show_overviews(ledgers: Sequence[dict[str, Any]]) -> None:
    """A row for each ledger, then the lines of those that have them."""
    columns = ("ledger", "data", "last spent", "per", "n", "delta", "runs", "rounds", "steps", "eps rdp", "eps prv")
    rows = []
    for one in ledgers:
        counts = [f"{one['units']:,}", f"{one['delta']:.3g}", *(f"{one[key]:,}" for key in ("runs", "rounds", "steps"))]
        epsilons = [f"{one['epsilon_rdp']:.3f}", f"{one['epsilon_prv']:.3f}"]
        rows.append([one["ledger"], one["data_hash"][:12], one["last_spent"] or "-", one["unit"], *counts, *epsilons])
    if rows:
        show_table("Spent so far", columns, rows, numbers_from=4)
    for one in ledgers:
        if "lines" in one:
            told = [
                line | {"about": f"{line.get('data_hash', '')[:12]} {line.get('reason', '')}"} for line in one["lines"]
            ]
            cells = [[_short(line.get(key)) for key in _LINE] for line in told]
            show_table(one["ledger"], [key.replace("_", " ") for key in _LINE], cells, numbers_from=3)


def _short(value: object) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
