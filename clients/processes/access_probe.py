"""``python -m clients.processes.access_probe PATH...``: which of these can this user read, or list?

Run as Flower's user before its processes start, and answered by trying: modes, groups and access lists all count.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path


def readable(paths: Iterable[str]) -> list[str]:
    """Those of ``paths`` that this process can open, or list where they are directories."""
    found = []
    for path in paths:
        try:
            if Path(path).is_dir():
                os.listdir(path)  # noqa: PTH208 - iterdir opens nothing before it is walked
            else:
                with open(path, "rb") as file:  # noqa: PTH123
                    file.read(1)
        except OSError:
            continue
        found.append(path)
    return found


if __name__ == "__main__":
    json.dump(readable(sys.argv[1:]), sys.stdout)
