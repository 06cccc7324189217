"""What a supervisor has written down about its processes, for commands that ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def read_record(path: Path) -> dict[str, dict[str, Any]]:
    """Name of a process -> pid, since, restarts, said, ended (at, why); empty where there is no record.

    Raises:
        PermissionError: it is another user's.
    """
    try:
        children = json.loads(path.read_text(encoding="utf-8"))["children"]
        return {str(name): dict(child) for name, child in children.items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def endings(processes: Mapping[str, Mapping[str, Any]], now: float) -> Iterator[str]:
    """A sentence for each process that was started again: when it last ended, and why.

    >>> list(endings({"worker": {"ended": {"at": 0.0, "why": "did not answer for 120 s, and was ended"}}}, 180.0))
    ['worker last ended 3 min ago: did not answer for 120 s, and was ended']
    """
    for name, process in processes.items():
        if ended := process.get("ended"):
            yield f"{name} last ended {max(now - ended['at'], 0) / 60:.0f} min ago: {ended['why']}"
