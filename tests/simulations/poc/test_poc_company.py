"""Nothing of a showing is left running, and a kill is one."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from clients.processes.site_processes import MARKER as OF_A_SITE
from fedmedpeft.supervision.leftovers import processes_with, wait_until
from server.processes.start_command import MARKER as OF_A_SERVER
from simulations.poc import company as company_module
from simulations.poc.company import Company, Operated
from simulations.poc.errors import PocError
from simulations.poc.stage import Stage
from simulations.poc.teller import Teller

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc on this system")

_SUPERVISOR = """
import os, subprocess, sys, time
state = sys.argv[1]
child = lambda: subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(60)"],
    env={sys.argv[2]: state, "PATH": os.environ["PATH"]}, start_new_session=True,
)
running = [child(), child()]
print("2026-01-01 00:00:00 started", flush=True)
while True:
    running = [one if one.poll() is None else child() for one in running]
    time.sleep(0.01)
"""


@pytest.fixture
def company(stage: Stage, tmp_path: Path, teller: Teller, monkeypatch: pytest.MonkeyPatch) -> Company:
    """Its commands are small programs in place of `fedmedpeft`."""
    monkeypatch.setattr(company_module, "_COMMAND", (sys.executable, "-c"))
    monkeypatch.setattr(company_module, "_FAREWELL", 0.3)
    return Company(stage, tmp_path, teller)


def _site(company: Company, stage: Stage, name: str) -> tuple[Operated, str]:
    """Something that supervises two processes of a site."""
    state = str(stage.site(name).state_directory)
    operated = company.start(name, textwrap.dedent(_SUPERVISOR), state, OF_A_SITE)
    assert wait_until(lambda: operated.said("started"), 20.0)
    return operated, f"{OF_A_SITE}={state}"


def test_a_killed_site_is_gone_with_all_its_processes(company: Company, stage: Stage) -> None:
    first, second = list(stage.sites)[:2]
    with company:
        killed, its_marker = _site(company, stage, first)
        other, others_marker = _site(company, stage, second)
        assert company.kill_site(first, killed) == 3
        assert killed.ended() == -signal.SIGKILL
        assert not wait_until(lambda: bool(processes_with(its_marker)), 0.3), "its supervisor started one again"
        assert other.ended() is None
        assert len(processes_with(others_marker)) == 2


def test_a_killed_server_is_gone(company: Company, stage: Stage) -> None:
    with company:
        state = str(stage.server.state)
        server = company.start("server", textwrap.dedent(_SUPERVISOR), state, OF_A_SERVER)
        assert wait_until(lambda: server.said("started"), 20.0)
        assert company.kill_server(server) == 3
        assert not processes_with(f"{OF_A_SERVER}={state}")


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_nothing_is_left_however_it_ends(
    company: Company, stage: Stage, tmp_path: Path, error: type[BaseException] | None
) -> None:
    """Nor what a site started with an environment of its own, and its supervisor did not end."""
    try:
        with company:
            operated, marker = _site(company, stage, next(iter(stage.sites)))
            if error:
                raise error
    except (KeyboardInterrupt, ValueError):
        assert error
    assert operated.ended() is not None
    assert not processes_with(marker)
    assert not processes_with(f"{company_module.MARKER}={tmp_path}")


def test_what_does_not_listen_is_ended_all_the_same(company: Company) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    with company:
        operated = company.start("deaf", deaf)
        assert wait_until(lambda: operated.said("deaf"), 20.0)
        with pytest.raises(PocError, match="'deaf' did not end within 0.3 s"):
            company.stop(operated)
    assert operated.ended() == -signal.SIGKILL


def test_what_a_command_says_is_told_under_its_name(company: Company, told: list[str]) -> None:
    with company:
        operated = company.start(
            "Ulm", "import os, sys; print('hello'); sys.exit(os.environ['OMP_NUM_THREADS'] != '1')"
        )
        assert operated.finish() == 0
    assert operated.lines == ["hello"]
    assert told[-1].split(maxsplit=2)[2] == "Ulm               hello"
    assert os.environ.get(company_module.MARKER) is None
