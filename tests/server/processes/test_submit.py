from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from server.processes import status_command, submit_command
from server.processes.control import ServerError, Site
from server.processes.kit import ServerKit
from server.processes.status_command import ServerStatus, read_status, show_status
from server.processes.submit_command import list_runs, read_run, show_submission, stop_run, submit
from server.run_state import History
from tests.tls_kit import make_server_kit

_FLWR = """#!/bin/sh
echo "$@" >> '{folder}/calls'
case "$1" in
run) cp "$4" '{folder}/run-config.toml'; ls "$2" > '{folder}/app'
     case "$*" in
     *--stream*) printf '%s\\n' 'Successfully started run 42' 'Run directory: /runs/a' 'a row' ;;
     *) cat '{folder}/answer' ;;
     esac ;;
*) cat '{folder}/answer' ;;
esac
"""


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerKit:
    """A kit whose server is away, and a ``flwr`` that notes how it was called."""
    program = tmp_path / "bin" / "flwr"
    program.parent.mkdir()
    program.write_text(_FLWR.format(folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    return ServerKit.open(make_server_kit(tmp_path / "kit"), None, 1)


@pytest.fixture
def up(kit: ServerKit, monkeypatch: pytest.MonkeyPatch) -> ServerKit:
    """The same, with a server that can be reached."""
    for module in (submit_command, status_command):
        monkeypatch.setattr(module, "require_server", lambda kit: None)
    return kit


def _answers(tmp_path: Path, **answer: object) -> None:
    (tmp_path / "answer").write_text(json.dumps({"success": True} | answer))


def _run_file(tmp_path: Path, text: str) -> Path:
    (tmp_path / "run.toml").write_text(text)
    return tmp_path / "run.toml"


def test_results_go_below_the_kit_unless_a_run_says_otherwise(kit: ServerKit, tmp_path: Path) -> None:
    assert read_run(_run_file(tmp_path, "rounds = 3"), kit, "").runs_dir == str(kit.runs)
    assert read_run(_run_file(tmp_path, 'runs-dir = "/results"'), kit, "").runs_dir == "/results"


@pytest.mark.parametrize(
    ("text", "resume", "error"),
    [
        ("rounds = 0", "", "rounds"),
        ("round = 3", "", "did you mean|Did you mean"),
        ("rounds =", "", "is not TOML"),
        ("rounds = 3", "gone", "resume='gone': there is no such run"),
        ("rounds = 3", "../x", "must be a plain name"),
    ],
)
def test_a_run_that_cannot_be(kit: ServerKit, tmp_path: Path, text: str, resume: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        read_run(_run_file(tmp_path, text), kit, resume)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_run(tmp_path / "none.toml", kit, "")


def test_an_interrupted_run_goes_on(kit: ServerKit, tmp_path: Path) -> None:
    (kit.runs / "lora-1").mkdir(parents=True)
    assert read_run(_run_file(tmp_path, "rounds = 3"), kit, "lora-1").resume == "lora-1"
    written = read_run(_run_file(tmp_path, f"resume = 'lora-1'\nruns-dir = '{kit.runs}'"), kit, "")
    assert (written.resume, written.runs_dir) == ("lora-1", str(kit.runs))


def test_a_server_that_cannot_be_reached_is_told_before_anything_is_done(kit: ServerKit, tmp_path: Path) -> None:
    """Flower's own words for it are a page long, and name no command."""
    _answers(tmp_path, **{"run-id": "42"})
    for act in (
        lambda: submit(kit, RunConfig(), print, follow=False),
        lambda: submit(kit, RunConfig(), print, follow=True),
        lambda: stop_run(kit, "4"),
    ):
        with pytest.raises(ServerError, match=r"127.0.0.1:1 does not answer .*refused.*Is `fedmedpeft server start"):
            act()
    assert not (tmp_path / "calls").exists()


def test_a_server_that_went_away_meanwhile(up: ServerKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_command, "_RESTART", 0.01)
    monkeypatch.setattr("server.processes.follow._PAUSE", 0.0)
    (tmp_path / "answer").write_text("")
    with pytest.raises(ServerError, match="went away .* not known. `fedmedpeft server status` tells it once"):
        submit(up, RunConfig(), print, follow=True)


def test_the_app_and_the_configuration_are_handed_over(up: ServerKit, tmp_path: Path) -> None:
    _answers(tmp_path, **{"run-id": "42"})
    config = RunConfig(rounds=3, runs_dir="/results")
    assert submit(up, config, print, follow=False) == "42"
    assert (tmp_path / "app").read_text().split() == ["clients", "pyproject.toml", "server"]
    assert "rounds = 3" in (tmp_path / "run-config.toml").read_text()


def test_a_refusal_of_flower_is_an_error_although_it_ends_with_0(up: ServerKit, tmp_path: Path) -> None:
    _answers(tmp_path, success=False, **{"error-message": "[code: 15] Invalid run configuration."})
    for act in (
        lambda: submit(up, RunConfig(), print, follow=False),
        lambda: stop_run(up, "4"),
        lambda: list_runs(up),
    ):
        with pytest.raises(ServerError, match="Invalid run configuration"):
            act()
    (tmp_path / "answer").write_text("no JSON at all")
    with pytest.raises(ServerError, match="no JSON at all"):
        stop_run(up, "4")


@pytest.mark.parametrize("status", ["finished:completed", "finished:failed"])
def test_followed_to_its_true_end(up: ServerKit, tmp_path: Path, status: str) -> None:
    _answers(tmp_path, runs=[{"status": status, "status-details": "two sites\nare missing"}])
    said: list[str] = []
    if status == "finished:completed":
        assert submit(up, RunConfig(), said.append, follow=True) == "42"
    else:
        with pytest.raises(ServerError, match=r"two sites are missing \(log: .*submit-"):
            submit(up, RunConfig(), said.append, follow=True)
    assert said == ["Run directory: /runs/a", "a row"]


def test_the_same_by_hand(kit: ServerKit, capsys: pytest.CaptureFixture[str]) -> None:
    show_submission(kit, RunConfig(rounds=7))
    shown = capsys.readouterr().out
    assert "flwr run NEW-DIRECTORY/app --run-config NEW-DIRECTORY/run-config.toml --stream" in shown
    assert "# rounds = 7" in shown


def test_status_names_sites_and_runs(
    up: ServerKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sites = [Site("Ulm", 7, "online", "2026-01-01T00:00:00+00:00", "PEM"), Site("old", 8, "unregistered", "", "PEM")]
    hung = {"at": time.time() - 120, "why": "did not answer for 60 s, and was ended"}
    up.state.mkdir(parents=True, exist_ok=True)
    (up.state / "processes.json").write_text(json.dumps({"children": {"superlink": {"restarts": 1, "ended": hung}}}))
    monkeypatch.setattr(status_command, "list_sites", lambda kit: sites)
    _answers(tmp_path, runs=[{"run-id": "42", "status": "running", "status-details": "N/A"}])
    status = read_status(up)
    assert (status.online, [site.name for site in status.sites]) == (1, ["Ulm"])
    show_status(status, as_json=False)
    shown = capsys.readouterr().out
    assert "up; 1 of 1 sites online" in shown
    assert "superlink last ended 2 min ago: did not answer for 60 s, and was ended" in shown
    assert "running" in shown
    show_status(status, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["processes"]["superlink"] == {"restarts": 1, "ended": hung}
    assert told["sites"] == [{"name": "Ulm", "node": "7", "status": "online", "since": "2026-01-01T00:00:00+00:00"}]


def test_status_tells_of_runs_what_their_directories_tell(
    up: ServerKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status_command, "list_sites", lambda kit: [])
    (up.runs / "retina").mkdir(parents=True)
    History(("41",), "2 sites can take part, 3 are needed").write(up.runs / "retina")
    told = {"status": "finished:failed", "status-details": "ServerApp failed"}
    _answers(tmp_path, runs=[{"run-id": "42", **told}, {"run-id": "41", **told}])
    monkeypatch.setenv("COLUMNS", "200")
    show_status(read_status(up), as_json=False)
    shown = capsys.readouterr().out
    assert "failed before the first round: 2 sites can take part, 3 are needed" in shown
    assert shown.count("ServerApp failed") == 1
    assert [(run["run-id"], run["name"]) for run in read_status(up).runs] == [("42", ""), ("41", "retina")]


def test_status_of_a_server_that_is_away(kit: ServerKit, capsys: pytest.CaptureFixture[str]) -> None:
    status = read_status(kit)
    assert status == ServerStatus("127.0.0.1:1", status.problem, [], [], {})
    assert not status.healthy
    show_status(read_status(kit), as_json=False)
    assert "does not answer" in capsys.readouterr().out


def test_status_s_exit_code(tmp_path: Path) -> None:
    make_server_kit(tmp_path / "kit")
    (tmp_path / "kit" / "server.yaml").write_text("port: 1\n")
    program = "from server.server_cli import app; app()"
    command = [sys.executable, "-c", program, "server", "status", "--kit", str(tmp_path / "kit"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["healthy"] is False
