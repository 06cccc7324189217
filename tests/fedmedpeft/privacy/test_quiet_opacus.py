from __future__ import annotations

import subprocess
import sys

import pytest

_ASK = "import logging, sys; import {0}; print(len(logging.root.handlers), 'opacus' in sys.modules)"


@pytest.mark.parametrize(
    ("module", "loaded"),
    [
        ("fedmedpeft.privacy.quiet_opacus", True),
        ("clients.simulated_site", False),
        ("server.federation", False),
    ],
)
def test_nothing_is_logged_twice_and_opacus_waits_until_it_is_wanted(module: str, loaded: bool) -> None:
    done = subprocess.run([sys.executable, "-c", _ASK.format(module)], capture_output=True, text=True, check=True)
    assert done.stdout == f"0 {loaded}\n"
