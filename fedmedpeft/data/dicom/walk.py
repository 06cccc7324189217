"""All files below a folder, in a fixed order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def files_below(source: Path) -> Iterator[tuple[Path, str]]:
    """Each entry that is no folder, with its path below ``source``, with slashes.

    Links are named and never followed; folders that cannot be listed come last, so that nothing is left out in silence.
    """
    unlisted: list[OSError] = []
    for folder, folders, files in os.walk(source, followlinks=False, onerror=unlisted.append):
        folders.sort()
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in sorted([*files, *links]):
            path = here / name
            yield path, path.relative_to(source).as_posix()
    for error in unlisted:
        path = Path(os.fsdecode(error.filename))
        yield path, path.relative_to(source).as_posix()


def is_plain(path: Path) -> bool:
    """Whether it is a regular file: to open a pipe would wait forever."""
    return stat.S_ISREG(path.lstat().st_mode)
