from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND

from clients.processes import clientapp_process
from clients.processes.programs import write_programs


def _call(program: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": os.defpath}
    command = [str(program), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_every_kind_of_task_of_flower_is_covered(tmp_path: Path) -> None:
    directory = write_programs(tmp_path / "programs")
    assert {path.name for path in directory.iterdir()} == {*TASK_TYPE_TO_COMMAND.values(), "flower-supernode"}
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


def test_a_tasks_token_is_in_no_command_that_others_can_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "a python"
    python.write_text('#!/bin/sh\nfor part in "$@"; do echo "$part"; done; echo "token $FEDMEDPEFT_TASK_TOKEN"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    arguments = ("--runtime-api-address", "127.0.0.1:9", "--token", "se cret", "--insecure", "--parent-pid", "7")
    done = _call(write_programs(tmp_path / "programs") / "flwr-clientapp", *arguments, cwd=tmp_path)
    said = done.stdout.splitlines()
    assert said[-1] == "token se cret"
    assert said[3:-1] == ["--runtime-api-address", "127.0.0.1:9", "--insecure", "--parent-pid", "7"]


def test_flower_gets_the_token_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(clientapp_process, "replace_loading", lambda runtime: None)
    monkeypatch.setattr("flwr.supernode.cli.flwr_clientapp", lambda: seen.append(sys.argv))
    monkeypatch.setattr(sys, "argv", ["flwr-clientapp", "--insecure"])
    monkeypatch.setenv(clientapp_process.TOKEN, "secret")
    clientapp_process.main()
    assert seen == [["flwr-clientapp", "--insecure", "--token", "secret"]]
    assert clientapp_process.TOKEN not in os.environ
