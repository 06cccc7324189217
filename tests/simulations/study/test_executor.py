from __future__ import annotations

import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest

from fedmedpeft.config import RunConfig
from simulations.study import executor
from simulations.study.cell import Cell
from simulations.study.cell_directory import CellDirectory, Outcome
from simulations.study.executor import ProcessExecutor, Resources

_CELL = Cell(RunConfig(method="head"), "p")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a cell's process does, in place of a run; the last entry is its code."""
    code = ["pass"]
    start = subprocess.Popen

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", code[-1], *command[3:]], **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(executor.subprocess, "Popen", popen)
    return code


def test_a_cell_gets_its_configuration_and_keeps_its_log(program: list[str], tmp_path: Path) -> None:
    program.append("import sys; print(*sys.argv[2:]); print('done')")
    outcome = ProcessExecutor(tmp_path, Resources(2, 0.5, True))(_CELL)
    directory = CellDirectory(tmp_path, _CELL)
    assert outcome.reason == ""
    assert outcome.seconds > 0
    assert directory.log.read_text() == "--cpus-per-site=2 --gpus-per-site=0.5 --online\ndone\n"
    config = tomllib.loads((directory.notes / "cell.toml").read_text())["config"]
    assert (config["run-name"], config["runs-dir"]) == (_CELL.name, str(tmp_path / "runs"))
    assert config["method"] == "head"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('Error: first'); print('Error: no data'); print('more'); raise SystemExit(1)", "no data"),
        ("raise SystemExit(3)", "the process ended with code 3"),
        ("import os; os.kill(os.getpid(), 9)", "the process was ended by signal 9"),
    ],
)
def test_a_failure_has_its_reason(program: list[str], tmp_path: Path, code: str, reason: str) -> None:
    program.append(code)
    assert ProcessExecutor(tmp_path, Resources())(_CELL).reason.startswith(reason)


def test_stopping_ends_what_runs_and_starts_nothing_more(program: list[str], tmp_path: Path) -> None:
    program.append("print('here', flush=True); import time; time.sleep(60)")
    execute, outcomes = ProcessExecutor(tmp_path, Resources()), list[Outcome]()
    thread = threading.Thread(target=lambda: outcomes.append(execute(_CELL)))
    thread.start()
    log = CellDirectory(tmp_path, _CELL).log
    while not log.is_file() or not log.read_text():
        time.sleep(0.02)
    execute.stop()
    thread.join(20)
    assert "signal 15" in outcomes[0].reason
    assert execute(_CELL).reason == "stopped"
