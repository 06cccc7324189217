"""JSON that vouches for itself: whatever changed one byte of such a file is noticed when it is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fedmedpeft.atomic_file import write_atomically


class DamagedFile(Exception):  # noqa: N818 - it names what the file is
    """What was read is not what was written; ``str()`` says why, in a few words."""


def write_sealed(path: Path, content: Any) -> None:
    """Write ``content`` and its SHA-256, atomically. Numbers are read back as they were to the bit, nan and inf too."""
    write_atomically(path, _sealed(content))


def read_sealed(path: Path) -> Any:
    """What was written.

    Raises:
        DamagedFile: it is not there, cannot be read, or has changed.
    """
    try:
        text = path.read_bytes().decode()
        content = json.loads(text)["content"]
    except FileNotFoundError:
        raise DamagedFile("it is not there") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFile(f"it cannot be read, {type(error).__name__}") from None
    # Written once more it is the same to the byte, or it is not what was written.
    if _sealed(content) != text:
        raise DamagedFile("it is not what was written, its checksum differs")
    return content


def _sealed(content: Any) -> str:
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({"sha256": digest, "content": content}) + "\n"
