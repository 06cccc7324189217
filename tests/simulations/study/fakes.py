"""Studies whose runs are written, not run."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from fedmedpeft import __version__
from simulations.study.cell import Cell
from simulations.study.cell_directory import CellDirectory, Outcome
from simulations.study.study_file import Study

Scores = Callable[[Cell], tuple[float, float]]
"""A cell's validation and test score."""


def study(backbone: Path, **changes: Any) -> Study:
    """Two methods, two seeds, two scales, on phantoms (synthetic)."""
    content: dict[str, Any] = {
        "name": "fake",
        "methods": ["head", "layernorm"],
        "seeds": [0, 1],
        "learning-rate-scales": [0.5, 1.0],
        "run": {
            "backbone": str(backbone),
            "data": "phantoms(images=120, scanners=3, size=32)",
            "rounds": 2,
            "local-steps": 2,
            "batch-size": 4,
            "min-train-per-site": 4,
        },
    }
    return Study.model_validate(content | changes)


def even(cell: Cell) -> tuple[float, float]:
    """Validation 0.6 at scale 1 and less elsewhere; test a little above, by seed."""
    return 0.6 - abs(cell.scale - 1) / 10, 0.7 + cell.seed / 100


def write_run(directory: CellDirectory, validation: float, test: float) -> None:
    """What a completed run of this cell leaves behind, as far as a study reads it."""
    cell, run = directory.cell, directory.run
    run.mkdir(parents=True)
    where = {"runs-dir": str(run.parent), "run-name": run.name}
    config: dict[str, Any] = {
        "config": cell.config.to_mapping() | where,
        "versions": {"fedmedpeft": __version__},
        "federation": {"partition-hash": cell.partition_hash},
    }
    (run / "config.toml").write_text(tomli_w.dumps(config))
    rounds = [
        {"round": n, "val_balanced_accuracy": v, "worst_val_balanced_accuracy": v / 2, "seconds": n + 1.0}
        for n, v in enumerate((0.1, 0.99, validation))
    ]
    _write_csv(run / "rounds.csv", rounds)
    size = 1000 if cell.method == "head" else 9000
    sites = [{"round": 0, "site": site, "outcome": "joined", "bytes_up": 5, "bytes_down": 5} for site in ("a", "b")] + [
        {"round": n, "site": site, "outcome": outcome, "bytes_up": size, "bytes_down": size + 10}
        for n, outcome in ((1, "accepted"), (2, "accepted"), (3, "evaluated"))
        for site in ("a", "b")
    ]
    _write_csv(run / "sites.csv", sites)
    own = {"mean": test, "worst": test - 0.1, "worst_site": "b", "sites": _sites(test)}
    results = {cell.kind: own}
    if cell.kind == "federated":
        results["personalised"] = own | {"mean": test + 0.05}
    summary: dict[str, Any] = {"results": results, "traffic": {"up_bytes": 40, "down_bytes": 2}, "synthetic": True}
    summary |= {"sites": {"a": {}, "b": {}}, "privacy": {}, "client_privacy": {}}
    if cell.config.privacy != "off":
        summary["privacy"] = {"a": {"unit": "patient", "epsilon": 2.0 + cell.seed, "delta": 1e-4}}
    (run / "summary.json").write_text(json.dumps(summary))


class FakeExecutor:
    """Writes runs in place of running them.

    Args:
        study: directory of the study.
        scores: what they come to.
        broken: cells that this is true of fail: they leave half a run behind and raise.
    """

    def __init__(self, study: Path, scores: Scores = even, broken: Callable[[Cell], bool] = lambda cell: False) -> None:
        self.study, self.scores, self.broken = study, scores, broken
        self.executed: list[str] = []
        self.guard = threading.Lock()

    def __call__(self, cell: Cell) -> Outcome:
        directory = CellDirectory(self.study, cell)
        with self.guard:
            self.executed.append(cell.label)
        assert not directory.run.exists()
        if self.broken(cell):
            directory.run.mkdir(parents=True)
            raise RuntimeError("the site is on fire")
        write_run(directory, *self.scores(cell))
        return Outcome("", 2.0)


class Silent:
    """A watcher that only remembers."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str, bool]] = []

    def started(self, cell: Cell) -> None:
        pass

    def ended(self, cell: Cell, outcome: Outcome, *, reused: bool) -> None:
        self.ends.append((cell.label, outcome.reason, reused))


def _sites(test: float) -> Mapping[str, Any]:
    scores = {"a": test + 0.1, "b": test - 0.1}
    return {site: {"samples": 10, "loss": 0.5, "balanced_accuracy": v, "auroc": v} for site, v in scores.items()}


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
