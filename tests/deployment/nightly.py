"""What marks the tests here: they take minutes, so `make faults` runs them and not every `make test`."""

from __future__ import annotations

import os

import pytest

NIGHTLY = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("FEDMEDPEFT_NIGHTLY") != "1", reason="takes minutes: `make faults` runs it"),
]
