"""How far a run has come, from the files in its directory alone."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.file_lock import is_locked

SUMMARY_FILE, RESUME_FILE, LOCK_FILE, HISTORY_FILE = "summary.json", "resume.toml", ".lock", "history.json"
CHECKPOINTS = "checkpoints"
_ROUND = re.compile(r"round-(\d+)(-strategy)?\.(json|safetensors)")


@dataclass(frozen=True)
class History:
    """Who wrote a run's directory, and how that ended.

    Args:
        flower_runs: ids of Flower's runs; each but the first went on with what the one before it left.
        failure: why the last of them failed; empty where it did not, or was cut off before it could say.
    """

    flower_runs: tuple[str, ...] = ()
    failure: str = ""

    @classmethod
    def read(cls, path: Path) -> History:
        """Of the run in ``path``; an empty one where nothing can be read."""
        try:
            content = json.loads((path / HISTORY_FILE).read_text(encoding="utf-8"))
            return cls(tuple(str(run) for run in content["flower_runs"]), str(content["failure"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return cls()

    def write(self, path: Path) -> None:
        """Raises OSError."""
        write_atomically(path / HISTORY_FILE, json.dumps(asdict(self), indent=2) + "\n")


def state_of_run(path: Path) -> str:
    """Of the run in ``path``: "complete", "running", "failed before the first round: WHY", "failed after round 3: WHY",
    and of one that had no time to say why, "interrupted after round 3" or "interrupted before the first round"."""
    if (path / SUMMARY_FILE).is_file():
        return "complete"
    if is_locked(path / LOCK_FILE):
        return "running"
    rounds, why = rounds_saved(path / CHECKPOINTS), History.read(path).failure
    reached = f"after round {rounds[0]}" if rounds and rounds[0] else "before the first round"
    return f"failed {reached}: {why}" if why else f"interrupted {reached}"


def states_by_flower_run(runs_dir: Path) -> dict[str, tuple[str, str]]:
    """By id of Flower's run: name and state of the run whose directory below ``runs_dir`` it wrote."""
    states = {}
    for path in sorted(found.parent for found in runs_dir.glob(f"*/{HISTORY_FILE}")):
        ids = History.read(path).flower_runs
        for before, after in pairwise(ids):
            states[before] = (path.name, f"went on as {after}")
        for last in ids[-1:]:
            states[last] = (path.name, state_of_run(path))
    return states


def rounds_saved(checkpoints: Path) -> list[int]:
    """After which rounds there are checkpoints, whole or not; the last one first."""
    return sorted((round_of(path) for path in checkpoints.glob("round-*.json")), reverse=True)


def round_of(path: Path) -> int:
    """The round in the name of a checkpoint's file; 0 for another name."""
    match = _ROUND.fullmatch(path.name)
    return int(match[1]) if match else 0
