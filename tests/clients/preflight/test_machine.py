from __future__ import annotations

import socket
import tomllib
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.preflight import machine
from clients.preflight.facts import Facts
from clients.preflight.machine import FLOWER, check_disk, check_port, check_versions, check_worker

_Usage = namedtuple("_Usage", "total used free")


def test_versions(facts_of: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_versions(facts_of()).status == "pass"
    monkeypatch.setattr(machine, "version", lambda name: "1.42.0")
    result = check_versions(facts_of())
    assert (result.status, "1.42.0" in result.text) == ("fail", True)
    assert "flwr>=1.41,<1.42" in result.fix


def test_flowers_version_is_the_one_that_is_installed_with_it() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert any(FLOWER in need for need in project["dependencies"] if need.startswith("flwr"))


def test_the_worker_and_its_port(facts_of: Callable[..., Facts]) -> None:
    with socket.socket() as taken, socket.socket(socket.AF_UNIX) as worker:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        facts = facts_of(worker={"runtime-port": taken.getsockname()[1]})
        assert "no worker" in check_worker(facts).text
        stranger = check_port(facts)
        assert (stranger.status, "another program" in stranger.text) == ("fail", True)
        facts.site.state_directory.mkdir()
        worker.bind(str(facts.site.socket))
        assert "no worker" in check_worker(facts).text  # a socket that a worker left behind
        worker.listen()
        assert "a worker runs" in check_worker(facts).text
        assert check_port(facts).status == "pass"
    assert check_port(facts).text.endswith("is free.")


@pytest.mark.parametrize(("free", "status"), [(2**40, "pass"), (2**29, "warn"), (2**20, "fail")])
def test_room(facts_of: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage(2**41, 0, free))
    assert check_disk(facts_of()).status == status
