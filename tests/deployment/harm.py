"""What goes wrong with a machine, done to one: too little memory, a disk that is full."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SMALL = 16 * 2**20


def grant_memory(pid: int, extra: int) -> None:
    """Let a process have ``extra`` bytes more than it has now, at most."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0])
    most = resource.prlimit(pid, resource.RLIMIT_AS)[1]
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + extra, most))


def grant_all_memory(pid: int) -> None:
    most = resource.prlimit(pid, resource.RLIMIT_AS)[1]
    resource.prlimit(pid, resource.RLIMIT_AS, (most, most))


@contextmanager
def small_disk(directory: Path) -> Iterator[bool]:
    """A disk of 16 MB at ``directory``; False where this user may mount none, and nothing was done."""
    directory.mkdir(parents=True, mode=0o700)
    options = f"size={_SMALL},mode=0700"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Write a file until its disk is full."""
    filler = directory / "somebody-elses-file"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(2**16)):
                pass
        except OSError:
            return filler
    raise AssertionError(f"'{directory}' never became full")
