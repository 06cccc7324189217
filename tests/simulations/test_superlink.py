from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fedmedpeft.supervision.leftovers import processes_in, processes_with
from simulations import superlink
from simulations.superlink import LaunchError, LocalSuperLink

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc on this system")

_SERVER = """#!{python}
import http.server, subprocess, sys
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass
# A child that outlives its parent and takes no hint, as a stuck actor would.
subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], start_new_session=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Health).serve_forever()
"""


def _superlink(tmp_path: Path, program: str) -> LocalSuperLink:
    """A LocalSuperLink whose flower-superlink is ``program``."""
    script = tmp_path / "bin" / "flower-superlink"
    script.parent.mkdir()
    script.write_text(program)
    script.chmod(0o755)
    (tmp_path / "cwd").mkdir()
    environment = {"PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}", "FLWR_HOME": str(tmp_path)}
    return LocalSuperLink(tmp_path, tmp_path / "cwd", environment)


@needs_proc
def test_everything_that_it_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(superlink, "_FAREWELL", 0.6)
    marker = f"FLWR_HOME={tmp_path}"
    with _superlink(tmp_path, _SERVER.format(python=sys.executable)):
        assert len(processes_with(marker)) >= 2
        connection = tomllib.loads((tmp_path / "config.toml").read_text())["superlink"]
        assert connection["launch"]["address"].startswith("127.0.0.1:")
        assert connection["default"] == "launch"
    assert processes_with(marker) == []


@needs_proc
def test_a_process_that_hides_its_environment_is_known_by_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray's agents do, whose title covers it."""
    monkeypatch.setattr(superlink, "_FAREWELL", 0.6)
    server = _SERVER.format(python=sys.executable).replace("start_new_session=True", "start_new_session=True, env={}")
    with _superlink(tmp_path, server):
        assert len(processes_in(tmp_path / "cwd")) > len(processes_with(f"FLWR_HOME={tmp_path}"))
    assert processes_in(tmp_path / "cwd") == []


def test_one_that_does_not_come_up_is_an_error_with_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(LaunchError, match=r"did not start.*superlink\.log"),
        _superlink(tmp_path, "#!/bin/sh\necho no such port\nexit 3\n"),
    ):
        pass
    assert "no such port" in (tmp_path / "superlink.log").read_text()


@needs_proc
def test_other_processes_are_not_ours(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "30"], env={"FLWR_HOME": f"{tmp_path}-other", "PATH": os.environ["PATH"]})
    try:
        assert processes_with(f"FLWR_HOME={tmp_path}") == []
        assert processes_with(f"FLWR_HOME={tmp_path}-other") == [other.pid]
    finally:
        other.kill()
        other.wait()
