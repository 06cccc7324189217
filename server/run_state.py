"""How far a run has come, from the files in its directory alone."""

from __future__ import annotations

import re
from pathlib import Path

from fedmedpeft.file_lock import locked

SUMMARY_FILE, RESUME_FILE, LOCK_FILE = "summary.json", "resume.toml", ".lock"
CHECKPOINTS = "checkpoints"
_ROUND = re.compile(r"round-(\d+)(-strategy)?\.(json|safetensors)")


def state_of_run(path: Path) -> str:
    """Of the run in ``path``: "complete", "running", "interrupted after round 3" or
    "interrupted before the first round"."""
    if (path / SUMMARY_FILE).is_file():
        return "complete"
    if _is_being_written(path):
        return "running"
    rounds = rounds_saved(path / CHECKPOINTS)
    return f"interrupted after round {rounds[0]}" if rounds and rounds[0] else "interrupted before the first round"


def rounds_saved(checkpoints: Path) -> list[int]:
    """After which rounds there are checkpoints, whole or not; the last one first."""
    return sorted((round_of(path) for path in checkpoints.glob("round-*.json")), reverse=True)


def round_of(path: Path) -> int:
    """The round in the name of a checkpoint's file; 0 for another name."""
    match = _ROUND.fullmatch(path.name)
    return int(match[1]) if match else 0


def _is_being_written(path: Path) -> bool:
    """Whether a server on this machine is writing the run."""
    if not (path / LOCK_FILE).is_file():
        return False
    try:
        with locked(path / LOCK_FILE, wait=False):
            return False
    except BlockingIOError:
        return True
