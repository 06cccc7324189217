from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.audit_log.audit_log import AuditLog, read_log
from clients.audit_log.events import Stopped
from clients.processes import start_command, status_command
from clients.processes.site_processes import MARKER
from clients.processes.start_command import LOCK, RECORD, start_site
from clients.processes.status_command import read_status, show_status
from clients.site_file import SiteFile
from fedmedpeft.components import ConfigError
from fedmedpeft.file_lock import locked
from fedmedpeft.supervision import Child
from tests.clients.processes.site_files import write_site


def _stub(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """In place of the site's processes one that ends at once."""

    def processes(site: SiteFile, file: Path, environ: dict[str, str], account: None, grace: float) -> list[Child]:
        log = site.folder("logs") / "worker.log"
        return [Child("worker", ("sh", "-c", script), dict(os.environ), site.directory, log)]

    monkeypatch.setattr(start_command, "site_processes", processes)


def test_it_prepares_says_what_is_not_separate_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_site(tmp_path)
    _stub(monkeypatch, "echo broken; exit 4")
    assert start_site(file, once=True, grace=1.0, environ=os.environ) == 1
    said = capsys.readouterr().out
    assert "run as the same user as the worker" in said
    assert "worker: ended (exit code 4): broken." in said
    assert (tmp_path / "state" / "programs" / "flwr-clientapp").is_file()
    assert (tmp_path / "state" / "superexec.secret").is_file()
    assert not (tmp_path / "state" / RECORD).exists()


def test_one_per_state_directory(tmp_path: Path) -> None:
    file = write_site(tmp_path)
    with (
        locked(tmp_path / "state" / LOCK, wait=False),
        pytest.raises(ConfigError, match="started already.*site status"),
    ):
        start_site(file, once=True, grace=1.0, environ=os.environ)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda folder: (folder / "ca.crt").unlink(), r"server.ca-certificate=.*is no file"),
        (lambda folder: (folder / "site.key").unlink(), r"server.key=.*is no file"),
        (lambda folder: (folder / "site.key").chmod(0o640), r"has mode 0640: others may read it.*chmod 600"),
    ],
)
def test_what_flower_would_stumble_over(tmp_path: Path, spoil: Callable[[Path], None], error: str) -> None:
    file = write_site(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=error):
        start_site(file, once=True, grace=1.0, environ=os.environ)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc on this system")
def test_what_a_killed_start_left_behind_is_ended_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_site(tmp_path)
    leftover = subprocess.Popen(["sleep", "60"], env={**os.environ, MARKER: str(tmp_path / "state")})
    other = subprocess.Popen(["sleep", "60"], env={**os.environ, MARKER: str(tmp_path / "state2")})
    try:
        _stub(monkeypatch, "exit 0")
        monkeypatch.setattr("fedmedpeft.supervision.leftovers._INSISTENCE", 0.3)
        start_site(file, once=True, grace=1.0, environ=os.environ)
        assert leftover.wait(5) == -15
        assert other.poll() is None
    finally:
        for process in (leftover, other):
            process.kill()
            process.wait()


def test_status_of_a_site_that_is_not_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_site(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / RECORD).write_text(json.dumps({"children": {"supernode": {"said": "connected"}}}))
    status = read_status(file)
    assert not status.started
    assert not status.connected, "a record of a start that was killed tells nothing"
    assert not status.well
    show_status(status, as_json=False)
    assert "not started" in capsys.readouterr().out
    assert not (tmp_path / "state" / LOCK).exists()


_WORKER = {
    **{"pid": 7, "started": 1.0, "busy": "", "since": 2.0, "run": "lora", "round": 3, "outcome": "POLICY"},
    **{"reason": "policy: most 5 rounds", "seconds": 12.0},
}


def test_status_of_one_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_site(tmp_path)
    log = AuditLog.open(tmp_path / "state" / "audit" / "audit-log.jsonl", site="Basel")
    log.note(Stopped())
    ended = {"at": time.time() - 240, "why": "did not answer for 60 s, and was ended"}
    said = {"pid": 5, "since": 1.0, "restarts": 2, "said": "connected to the server (as node 9)", "ended": ended}
    monkeypatch.setattr(status_command, "worker_status", lambda socket: _WORKER)
    with locked(tmp_path / "state" / LOCK, wait=False):
        (tmp_path / "state" / RECORD).write_text(json.dumps({"children": {"supernode": said}}))
        status = read_status(file)
    assert status.well
    assert status.audit_lines == 2
    show_status(status, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["worker"] == _WORKER
    assert (told["processes"]["supernode"]["restarts"], told["processes"]["supernode"]["ended"]) == (2, ended)
    assert (told["connected"], told["audit-lines"], told["epsilon"]) == (True, 2, {})
    last = read_log(log.path).hashes[-1]
    assert told["audit-hash"] == last
    show_status(status, as_json=False)
    shown = capsys.readouterr().out
    assert "last: POLICY (policy: most 5 rounds) of run 'lora', round 3, 12 s" in shown
    assert "supernode last ended 4 min ago: did not answer for 60 s, and was ended" in shown
    assert f"Audit log: 2 lines, last hash {last} (" in shown
    log.path.with_name(f"{log.path.name}.head").write_text("2")
    show_status(read_status(file), as_json=False)
    assert "its head file is gone or damaged" in capsys.readouterr().out


def test_what_was_spent_is_told_by_ledger(tmp_path: Path) -> None:
    file = write_site(tmp_path)
    (tmp_path / "state" / "ledger").mkdir(parents=True)
    (tmp_path / "state" / "ledger" / "site.ledger.jsonl").write_text("no ledger\n")
    assert list(read_status(file).epsilon) == ["site.ledger.jsonl (does not verify)"]


def _cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from clients.site_cli import app; sys.argv[0] = 'fedmedpeft'; app()"
    command = [sys.executable, "-c", program, "site", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_same_as_plain_commands(tmp_path: Path) -> None:
    done = _cli("start", str(write_site(tmp_path)), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "flower-supernode --superlink fl.example.org:443" in done.stdout
    assert "flower-superexec --insecure" in done.stdout
    assert f"export PATH={tmp_path / 'state' / 'programs'}:" in done.stdout
    assert MARKER not in done.stdout, "who exports it would be ended by the next start"
    assert not (tmp_path / "state").exists()


def test_status_s_exit_code(tmp_path: Path) -> None:
    done = _cli("status", str(write_site(tmp_path)), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["worker"] is None
