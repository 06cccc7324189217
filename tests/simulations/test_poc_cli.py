"""`fedmedpeft poc`: one of it for real, with Flower's own processes over TLS."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedmedpeft.components import ConfigError
from fedmedpeft.supervision.leftovers import processes_with
from simulations.poc_cli import app

_ROOT = Path(__file__).parents[2]


def test_too_few_sites_for_a_kill_are_refused_before_anything_starts(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["poc", "--sites", "2", "--work", str(tmp_path / "work")])
    assert isinstance(result.exception, ConfigError)
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_a_federation_of_real_processes(tmp_path: Path) -> None:
    """A socket's path has to be short, so the directory is not below pytest's."""
    with tempfile.TemporaryDirectory(prefix="fmp-poc-") as name:
        work = Path(name)
        arguments = ["--quick", "--sites", "2", "--rounds", "1", "--work", name]
        done = subprocess.run(
            [sys.executable, "-c", "from simulations.poc_cli import app; app()", "poc", *arguments],
            env={**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert done.stdout == (work / "poc.log").read_text()
        assert "All 2 sites are online: TLS" in done.stdout
        assert "as they were written" in done.stdout
        assert "Round overhead where nothing happened" in done.stdout
        assert list(work.glob("kits/server/runs/poc/adapter/*"))
        states = [work / "kits" / "sites" / site / "state" for site in ("scanner-00", "scanner-01")]
        markers = [f"FEDMEDPEFT_POC={work}", *(f"FEDMEDPEFT_SITE_STATE={state}" for state in states)]
        assert not [pid for marker in markers for pid in processes_with(marker)]
