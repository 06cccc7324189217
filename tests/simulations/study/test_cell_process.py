from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import tomli_w

from fedmedpeft.config import RunConfig

_ROOT = Path(__file__).parents[3]
# The process of a cell whose run takes for ever.
_ENDLESS = """
import sys, time, typer
from simulations.study import cell_process
def run(*arguments, **options):
    print("running", flush=True)
    time.sleep(600)
cell_process.run = run
typer.run(cell_process.main)
"""


def _file(tmp_path: Path, **settings: object) -> Path:
    path = tmp_path / "cell.toml"
    config = RunConfig.from_mapping({"data": "phantoms(images=120, scanners=3, size=32)", "min-train-per-site": 1})
    path.write_text(
        tomli_w.dumps({"config": config.to_mapping() | {"run-name": "x", "runs-dir": str(tmp_path)} | settings})
    )
    return path


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT)}


def _start(*command: str) -> subprocess.Popen[str]:
    """With a pipe to its standard input, which closes with the object that is returned."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
        text=True,
        start_new_session=True,
    )


def _readable(process: subprocess.Popen[str], seconds: float) -> bool:
    return bool(select.select([process.stdout], [], [], seconds)[0])


def test_it_ends_with_the_study_that_holds_its_standard_input(tmp_path: Path) -> None:
    process = _start("-c", _ENDLESS, str(_file(tmp_path)))
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.stdin.close()
    assert process.wait(20) != 0


def test_a_second_process_of_the_same_cell_waits_for_the_first(tmp_path: Path) -> None:
    path = _file(tmp_path)
    first = _start("-c", _ENDLESS, str(path))
    assert _readable(first, 60)
    second = _start("-c", _ENDLESS, str(path))
    try:
        assert not _readable(second, 3)
        first.kill()
        assert _readable(second, 60)
    finally:
        for process in (first, second):
            process.kill()
            process.wait()


def test_a_mistake_is_the_last_line_and_the_exit_code(tmp_path: Path) -> None:
    process = _start("-m", "simulations.study.cell_process", str(_file(tmp_path, data="phantms")))
    assert process.stdout is not None
    assert process.wait(60) == 1
    (line,) = process.stdout.read().splitlines()
    assert line.startswith("Error: ")
    assert "Did you mean 'phantoms'?" in line


def test_a_configuration_without_a_name_removes_nothing(tmp_path: Path) -> None:
    process = _start("-m", "simulations.study.cell_process", str(_file(tmp_path, **{"run-name": ""})))
    assert process.wait(60) == 1
    assert (tmp_path / "cell.toml").is_file()


def test_it_does_not_load_torch() -> None:
    script = "import sys, simulations.study.cell_process; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=_environment(), text=True, check=True
    )
    assert done.stdout == "False\n"
