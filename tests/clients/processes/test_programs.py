from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND

from clients.processes.programs import write_programs


def _call(program: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": os.defpath}
    command = [str(program), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_every_kind_of_task_of_flower_is_covered(tmp_path: Path) -> None:
    directory = write_programs(tmp_path / "programs")
    assert {path.name for path in directory.iterdir()} == set(TASK_TYPE_TO_COMMAND.values())
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o755 for path in (directory, *directory.iterdir()))


@pytest.mark.parametrize("name", sorted(set(TASK_TYPE_TO_COMMAND.values()) - {"flwr-clientapp"}))
def test_all_but_clientapps_are_refused(tmp_path: Path, name: str) -> None:
    """A server can ask a SuperNode for an AgentApp, whose code it sends along."""
    done = _call(write_programs(tmp_path / "programs") / name, "--token", "x", cwd=tmp_path)
    assert done.returncode == 1
    assert f"runs no {name}" in done.stderr


def test_the_clientapp_is_ours_whatever_lies_where_it_starts(tmp_path: Path) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "__init__.py").write_text("raise SystemExit('code from somewhere else')")
    done = _call(write_programs(tmp_path / "programs") / "flwr-clientapp", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--runtime-api-address" in done.stdout
    assert "--token" in done.stdout
