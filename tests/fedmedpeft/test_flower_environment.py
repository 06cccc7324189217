from __future__ import annotations

import os
import sys
from pathlib import Path

from fedmedpeft.flower_environment import flower_environment


def test_programs_of_ours_go_before_flower_s() -> None:
    path = flower_environment({"PATH": "/bin"}, Path("/home"), programs=Path("/programs"))["PATH"]
    assert path.split(os.pathsep) == ["/programs", str(Path(sys.executable).parent), "/bin"]


def test_a_proxy_may_be_needed_to_reach_the_server_but_never_for_loopback() -> None:
    environ = {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "intranet"}
    settings = flower_environment(environ, Path("/home"))
    assert "HTTPS_PROXY" not in settings
    assert settings["NO_PROXY"] == "intranet,127.0.0.1,localhost"


def test_nothing_is_asked_told_or_installed() -> None:
    settings = flower_environment({}, Path("/home"))
    assert settings["FLWR_HOME"] == "/home"
    assert settings["FLWR_TELEMETRY_ENABLED"] == "0"
    assert settings["FLWR_DISABLE_UPDATE_CHECK"] == settings["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
