from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, as the path of a socket must be."""
    path = Path(tempfile.mkdtemp(prefix="fmp-"))
    yield path
    shutil.rmtree(path)
