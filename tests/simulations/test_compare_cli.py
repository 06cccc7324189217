"""`fedmedpeft compare`: in this process with real training, and once for real through Flower."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fedmedpeft.cli import app
from fedmedpeft.supervision.leftovers import processes_with
from simulations.settings import read_settings
from simulations.study import executor
from simulations.study.cell import Cell
from simulations.study.cell_directory import CellDirectory, Outcome
from tests.simulations.conftest import run_in_process
from tests.simulations.study.fakes import FakeExecutor

_ROOT = Path(__file__).parents[2]


class _InProcess(executor.ProcessExecutor):
    """Runs cells with the real ServerApp and ClientApp, without Ray and processes."""

    def __call__(self, cell: Cell) -> Outcome:
        directory = CellDirectory(self.study, cell)
        run_in_process(read_settings(directory.prepare()))
        return Outcome("", 1.0)


class _Broken(FakeExecutor):
    def __init__(self, study: Path, resources: object) -> None:
        super().__init__(study, broken=lambda cell: cell.method == "head")

    def stop(self) -> None:
        pass


@pytest.fixture
def study_file(tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two methods, one seed, two scales."""
    monkeypatch.chdir(tmp_path)
    content = {
        "name": "small",
        "methods": ["head", "layernorm"],
        "seeds": [0],
        "learning-rate-scales": [0.5, 1],
        "references": "head",
        "run": {
            "backbone": str(tiny_backbone),
            "data": "phantoms(images=120, scanners=3, size=32)",
            "rounds": 2,
            "local-steps": 2,
            "batch-size": 4,
            "min-train-per-site": 4,
        },
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "study.yaml"


def _call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_a_study_from_the_file_to_the_plot(study_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "ProcessExecutor", _InProcess)
    code, out, err = _call(study_file)
    assert (code, err) == (0, "")
    directory = study_file.parent / "studies" / "small"
    assert out.count(": done in") == 6
    assert out.splitlines()[-1] == f"Study directory: {directory}"
    with (directory / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["federated"] * 4 + ["local-only", "pooled"]
    assert sorted(row["chosen"] for row in rows) == ["false"] * 2 + ["true"] * 4
    for row in rows:
        run = directory / row["run"]
        summary = json.loads((run / "summary.json").read_text())["results"][row["kind"]]
        assert float(row["test_balanced_accuracy"]) == pytest.approx(summary["mean"], abs=1e-8)
        if row["kind"] == "federated":
            assert float(row["bytes_up_per_site_round"]) > int(row["payload_bytes"]) > 0
            assert 0 <= float(row["val_balanced_accuracy"]) <= 1
    best = {
        method: max(
            (float(row["val_balanced_accuracy"]), -float(row["scale"])) for row in rows[:4] if row["method"] == method
        )
        for method in ("head", "layernorm")
    }
    chosen = {row["method"]: float(row["scale"]) for row in rows[:4] if row["chosen"] == "true"}
    assert chosen == {method: -scale for method, (_, scale) in best.items()}
    with (directory / "sites.csv").open(newline="") as file:
        losses = [row["loss"] for row in csv.DictReader(file) if row["model"] == "federated"]
    assert len(losses) == len(set(losses)) == 4 * 3  # another step size is another training
    assert (directory / "plot.svg").stat().st_size > 0
    assert "SYNTHETIC" in (directory / "table.md").read_text()
    again = _call(study_file)
    assert (again[0], again[1].count("(from before)")) == (0, 6)


def test_a_dry_run_shows_the_cells_and_starts_nothing(study_file: Path) -> None:
    code, out, _ = _call(study_file, "--dry-run", "--out", study_file.parent / "x")
    assert code == 0
    assert "6 runs, 4 of them for the choice among the scales 0.5, 1." in out
    assert out.count("as chosen") == 2
    assert "bytes of a state" in out
    assert [path.name for path in study_file.parent.iterdir()] == ["study.yaml"]


def test_a_report_of_no_runs_is_refused_and_leaves_what_is_there(study_file: Path) -> None:
    out = study_file.parent / "studies" / "small"
    out.mkdir(parents=True)
    (out / "table.md").write_text("of other settings")
    code, _, err = _call(study_file, "--report-only")
    assert code == 2
    assert "has no run of this study" in err
    assert [path.name for path in out.iterdir()] == ["table.md"]
    assert (out / "table.md").read_text() == "of other settings"
    code, _, err = _call(study_file, "--report-only", "--dry-run")
    assert (code, "Give one of them" in err) == (2, True)


def test_a_failed_run_is_the_exit_code_and_in_the_table(study_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "ProcessExecutor", _Broken)
    code, out, err = _call(study_file)
    assert code == 1
    assert "the site is on fire" in out
    assert "4 runs failed" in err
    code, out, _ = _call(study_file, "--report-only")
    assert code == 1
    assert "cell 1" not in out
    assert "## Failed runs" in out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- head", "- heat", "Did you mean 'head'?"),
        ("methods:", "metods:", "Did you mean 'methods'?"),
        ("rounds: 2", "rounds: two", "rounds='two'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_starts(study_file: Path, old: str, new: str, message: str) -> None:
    study_file.write_text(study_file.read_text().replace(old, new))
    code, _, err = _call(study_file)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert [path.name for path in study_file.parent.iterdir()] == ["study.yaml"]


def test_there_is_a_line_about_every_option() -> None:
    result = CliRunner().invoke(app, ["compare", "--help"], env={"COLUMNS": "200"})
    assert "Relative paths in the file" in result.stdout


@pytest.mark.slow
def test_through_flower_killed_and_continued(study_file: Path, tmp_path: Path) -> None:
    """One cell in processes of its own. The study is killed in its middle: its run ends with it, and is run again."""
    content = yaml.safe_load(study_file.read_text())
    content |= {"methods": ["head"], "learning-rate-scales": [1], "references": None}
    study_file.write_text(yaml.safe_dump(content))
    home = tmp_path / "home"
    environment = {**os.environ, "FEDMEDPEFT_FLWR_HOME": str(home), "PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-c", "from fedmedpeft.cli import main; main()", "compare", str(study_file)]
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    out = tmp_path / "studies" / "small"
    _until(lambda: len(list(out.glob("runs/*/config.toml"))) == 1, 120)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(from before)" not in done.stdout
    (run,) = out.glob("runs/*")
    assert {path.name for path in run.iterdir()} >= {"summary.json", "partition.json", "adapter"}
    assert "| `head` | 1 |" in (out / "table.md").read_text()
    assert processes_with(f"FEDMEDPEFT_FLWR_HOME={home}") == []


def _until(condition: object, seconds: float) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
