"""What is on disk of one cell: its run, its log and how it ended."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w

from fedmedpeft.atomic_file import write_atomically
from simulations.study.cell import Cell, identity

State = Literal["completed", "failed", "open"]


@dataclass(frozen=True)
class Outcome:
    """How an execution ended. ``reason`` is empty where the run completed."""

    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class CellDirectory:
    """``runs/<cell>/``, an ordinary run directory, and ``cells/<cell>/`` with what the study knows about it."""

    study: Path
    cell: Cell

    @property
    def run(self) -> Path:
        return self.study / "runs" / self.cell.name

    @property
    def notes(self) -> Path:
        return self.study / "cells" / self.cell.name

    @property
    def log(self) -> Path:
        """All that was printed when the cell was executed last."""
        return self.notes / "log.txt"

    def state(self) -> State:
        """A run counts as completed by its own files alone, never by a note."""
        if self._completed():
            return "completed"
        return "failed" if self.outcome().reason else "open"

    def outcome(self) -> Outcome:
        """As recorded; empty where nothing was, or where another version recorded it."""
        content = _read_json(self.notes / "outcome.json")
        if content.get("key") != self.cell.key:
            return Outcome()
        return Outcome(str(content.get("reason", "")), float(content.get("seconds", 0.0)))

    def record(self, outcome: Outcome) -> None:
        content = {"key": self.cell.key, "reason": outcome.reason, "seconds": outcome.seconds}
        write_atomically(self.notes / "outcome.json", json.dumps(content, indent=2) + "\n")

    def summary(self) -> dict[str, Any]:
        """``summary.json`` of the run; empty where there is none."""
        return _read_json(self.run / "summary.json")

    def prepare(self) -> Path:
        """Write the configuration with which this cell is run, and give its path."""
        where = {"runs-dir": str(self.run.parent.absolute()), "run-name": self.cell.name}
        content = {"config": self.cell.config.to_mapping() | where}
        write_atomically(self.notes / "cell.toml", tomli_w.dumps(content))
        return self.notes / "cell.toml"

    def clear(self) -> None:
        """Remove what an execution that did not end well left of its run."""
        if not self._completed():
            shutil.rmtree(self.run, ignore_errors=True)
            (self.notes / "outcome.json").unlink(missing_ok=True)

    def _completed(self) -> bool:
        if not self.summary():
            return False
        try:
            written = tomllib.loads((self.run / "config.toml").read_text(encoding="utf-8"))
            partition, version = written["federation"]["partition-hash"], written["versions"]["fedmedpeft"]
            return identity(written["config"], partition, version) == self.cell.key
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError):
            return False


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
