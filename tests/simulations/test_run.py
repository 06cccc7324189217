"""`fedmedpeft run` for real: Flower's own simulation in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.supervision.leftovers import processes_with
from tests.simulations.conftest import run_in_process, tiny_config

_ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def _run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fedmedpeft.cli import main; main()", "run", *arguments]
    environment = {**os.environ, "FEDMEDPEFT_FLWR_HOME": str(home), "PYTHONPATH": str(_ROOT)}
    return subprocess.run(
        command, cwd=home.parent, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def _leftovers(home: Path) -> list[int]:
    """Processes of any launch below ``home``, which all have it in their environment."""
    return processes_with(f"FEDMEDPEFT_FLWR_HOME={home}")


_DATA = "phantoms(images=240, scanners=2, classes=3)"
_GOLDEN = {"rounds": 3, "local-steps": 100, "batch-size": 16, "head-learning-rate": 0.05}


def test_a_run_through_flower_s_simulation(tmp_path: Path) -> None:
    golden = tiny_config(Path("embedded"), tmp_path / "here", data=_DATA, method="head", sites=2, **_GOLDEN)
    assignments = [f"--set={key}={value}" for key, value in (_GOLDEN | {"min-train-per-site": 4}).items()]
    done = _run(tmp_path / "home", "--data", _DATA, "--method=head", "--runs-dir=mine", "--name=golden", *assignments)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "mine" / "golden"
    assert done.stdout.splitlines()[-1] == f"Run directory: {run}"
    for name in ("config.toml", "rounds.csv", "sites.csv", "references.csv", "MODEL_CARD.md"):
        assert (run / name).stat().st_size > 0
    assert read_adapter(run / "adapter").config.method == "head"
    results = json.loads((run / "summary.json").read_text())["results"]
    # Chance is 0.33. The same run without Ray and processes must come to the same.
    assert 0.4 < results["federated"]["mean"] < 0.95
    expected = json.loads((run_in_process(golden) / "summary.json").read_text())["results"]
    for kind in ("federated", "local-only"):
        for site, scores in expected[kind]["sites"].items():
            assert results[kind]["sites"][site]["loss"] == pytest.approx(scores["loss"], rel=1e-3)
    assert "pid=" not in done.stdout
    assert _leftovers(tmp_path / "home") == []
    assert list((tmp_path / "home" / "launches").iterdir()) == []


def test_a_run_whose_rounds_move_a_part_through_flower_s_simulation(tmp_path: Path, tiny_backbone: Path) -> None:
    """Sites are asked in any process: what they keep between rounds must be the same as in one."""
    method = {"method": "sba(per_site=true)", "references": "none"}
    expected = run_in_process(tiny_config(tiny_backbone, tmp_path / "here", rounds=3, **method))
    settings = tiny_config(tiny_backbone, tmp_path / "mine", rounds=3, **method).to_mapping()
    file = tmp_path / "run.toml"
    file.write_text(tomli_w.dumps(settings))
    done = _run(tmp_path / "home", "--config", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = [(tmp_path / place / "tiny" / "rounds.csv").read_text().splitlines() for place in ("here", "mine")]
    drawn = [[line.rpartition(",")[2] for line in lines] for lines in rounds]
    assert drawn[0] == drawn[1]
    ours, theirs = (read_adapter(path / "adapter").state for path in (tmp_path / "mine" / "tiny", expected))
    for part, vector in ours.vectors.items():
        assert vector == pytest.approx(theirs.vectors[part], abs=1e-3)


def test_a_run_that_fails_inside_the_server_app_is_a_failure(tmp_path: Path, tiny_backbone: Path) -> None:
    wrong = ("--set", "backbone-fingerprint=00", "--runs-dir", "mine")
    done = _run(tmp_path / "home", "--data", _DATA, "--backbone", str(tiny_backbone), *wrong)
    assert done.returncode == 1
    assert "fingerprint" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    log = Path(done.stderr.rpartition("log: ")[2].strip().rstrip(")"))
    assert "fingerprint" in log.read_text()
    assert _leftovers(tmp_path / "home") == []
