from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from server.processes.follow import Follower

_FLWR = """#!/bin/sh
case "$1" in
run) printf '%s\\n' 'Using SuperLink: launch' 'Successfully started run 42'
     printf '%s\\n' 'Run directory: {run}' 'a row' '(Actor pid=1) x' ;;
ls) test "$3" = 42 && cat '{answer}' ;;
stop) echo "$2" > '{stopped}' ;;
esac
"""


def _follower(tmp_path: Path, said: list[str], *, status: object = None, verbose: bool = False) -> Follower:
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"success": True, "runs": [status] if status else []}))
    program = tmp_path / "flwr"
    program.write_text(_FLWR.format(run=tmp_path / "runs" / "a", answer=answer, stopped=tmp_path / "stopped"))
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    return Follower(["flwr", "run", "app"], tmp_path, environment, tmp_path / "run.log", said.append, verbose)


def test_a_completed_run(tmp_path: Path) -> None:
    said: list[str] = []
    status = {"status": "finished:completed", "status-details": "N/A"}
    follower = _follower(tmp_path, said, status=status)
    follower.follow()
    assert said == [f"Run directory: {tmp_path}/runs/a", "a row"]
    assert follower.run_directory == tmp_path / "runs" / "a"
    assert follower.status() == (True, "N/A")
    assert "(Actor pid=1) x" in (tmp_path / "run.log").read_text()


def test_a_run_that_failed_although_flwr_run_ends_with_0(tmp_path: Path) -> None:
    status = {"status": "finished:failed", "status-details": "Simulation failed with exception: no sites"}
    follower = _follower(tmp_path, [], status=status)
    follower.follow()
    assert follower.status() == (False, "Simulation failed with exception: no sites")


def test_verbose_shows_every_line(tmp_path: Path) -> None:
    said: list[str] = []
    _follower(tmp_path, said, verbose=True).follow()
    assert said[0] == "Using SuperLink: launch"
    assert said[-1] == "(Actor pid=1) x"


def test_no_answer_about_the_run_is_no_success(tmp_path: Path) -> None:
    follower = _follower(tmp_path, [])
    follower.follow()
    assert follower.status()[0] is False


def test_a_run_that_never_started(tmp_path: Path) -> None:
    follower = _follower(tmp_path, [])
    follower.command = ["sh", "-c", "echo 'the app is not valid'; exit 1"]
    follower.follow()
    assert follower.status() == (False, "the app is not valid")


def test_an_interruption_stops_the_run(tmp_path: Path) -> None:
    follower = _follower(tmp_path, [])

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    follower.say = interrupt
    with pytest.raises(KeyboardInterrupt):
        follower.follow()
    assert (tmp_path / "stopped").read_text().strip() == "42"


def test_a_server_that_is_away_for_a_moment_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run goes on while its SuperLink is started again."""
    monkeypatch.setattr("server.processes.follow._PAUSE", 0.0)
    follower = _follower(tmp_path, [])
    follower.follow()
    answers = iter(["", "no JSON", *(_run_is(status) for status in ("running", "running", "finished:completed"))])
    monkeypatch.setattr(follower, "_flwr", lambda *_: next(answers))
    assert follower.status(patience=30.0) == (True, "N/A")
    assert next(answers, None) is None


def test_a_server_that_does_not_come_back_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.processes.follow._PAUSE", 0.0)
    follower = _follower(tmp_path, [])
    follower.follow()
    assert follower.status(patience=0.05) == (False, "Flower does not say how the run ended")


def _run_is(status: str) -> str:
    return json.dumps({"success": True, "runs": [{"status": status, "status-details": "N/A"}]})
