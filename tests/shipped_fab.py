"""Apps as a server ships them: the genuine one, and others."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

from server.app_directory import make_app_directory


def genuine_fab(directory: Path) -> bytes:
    """What ``fedmedpeft server submit`` sends."""
    content: bytes = build_fab_from_disk(make_app_directory(directory / "app"))
    return content


def altered_fab(fab: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """``fab`` with files replaced, added or (None) left out."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(fab)) as old, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
        kept = {name: old.read(name) for name in old.namelist()}
        for name, text in {**kept, **changes}.items():
            if text is not None:
                new.writestr(name, text)
    return content.getvalue()
