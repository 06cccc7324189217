from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from simulations.environment import flower_home, flower_settings


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        ({"FEDMEDPEFT_FLWR_HOME": "/a", "FLWR_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/a"),
        ({"FLWR_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/fedmedpeft/flwr"),
        ({}, str(Path.home() / ".cache/fedmedpeft/flwr")),
    ],
)
def test_where_launches_keep_their_files(environ: dict[str, str], home: str) -> None:
    assert str(flower_home(environ)) == home


def _settings(online: bool = False, **environ: str) -> dict[str, str]:
    return flower_settings(environ, Path("/session"), Path("/tmp/ray"), online=online)


def test_no_telemetry_no_installation_and_a_home_of_its_own() -> None:
    settings = _settings()
    assert settings["FLWR_HOME"] == "/session"
    assert settings["FLWR_TELEMETRY_ENABLED"] == settings["RAY_USAGE_STATS_ENABLED"] == "0"
    assert settings["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert settings["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert settings["RAY_TMPDIR"] == "/tmp/ray"


def test_offline_unless_asked() -> None:
    assert _settings()["HF_HUB_OFFLINE"] == "1"
    assert _settings(online=True)["HF_HUB_OFFLINE"] == "0"


def test_loopback_is_never_sent_through_a_proxy() -> None:
    settings = _settings(NO_PROXY="example.org,localhost")
    assert settings["NO_PROXY"] == "example.org,localhost,127.0.0.1"
    assert settings["no_proxy"] == "127.0.0.1,localhost"


def test_flower_s_programs_are_those_of_this_environment() -> None:
    assert _settings(PATH="/bin")["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/bin"]


def test_relative_import_paths_still_mean_the_same() -> None:
    path = _settings(PYTHONPATH=f".{os.pathsep}/lib")["PYTHONPATH"]
    assert path.split(os.pathsep) == [str(Path.cwd()), "/lib"]
    assert "PYTHONPATH" not in _settings()
