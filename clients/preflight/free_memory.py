"""Main memory that is left for training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Files:
    """In the directory of a control group: its limit, what it has, and in its statistics what it can drop of that."""

    limit: str
    taken: str
    droppable: str


_OF_CONTROLLER: Mapping[str, _Files] = {
    "": _Files("memory.max", "memory.current", "inactive_file"),
    "memory": _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Version 2 names no controller, version 1 one for each tree."""


def free_memory(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that a program may still take: as Linux estimates it, and within what its container or service may have.

    Args:
        groups: where control groups are.
        own: the file that names this process's.
    """
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min([available, *(_left(group, files) for group, files in _groups(groups, own))])


def _groups(root: Path, own: Path) -> Iterator[tuple[Path, _Files]]:
    """This process's control groups that have a limit, and those that they are in."""
    for line in own.read_text(encoding="utf-8").splitlines() if own.is_file() else ():
        _, controller, name = line.split(":", 2)
        files = _OF_CONTROLLER.get(controller)
        if files is None:
            continue
        top = root / controller
        # In a container its own group is the top one, whatever it is called outside.
        place = top / name.lstrip("/")
        for group in dict.fromkeys([place, *(up for up in place.parents if up.is_relative_to(top)), top]):
            limit = group / files.limit
            if limit.is_file() and limit.read_text(encoding="ascii").strip().isdecimal():
                yield group, files


def _left(group: Path, files: _Files) -> int:
    limit, taken = (int((group / name).read_text(encoding="ascii")) for name in (files.limit, files.taken))
    statistics = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    return max(limit - taken + int(statistics.get(files.droppable, 0)), 0)
