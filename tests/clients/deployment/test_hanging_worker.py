"""The real worker, watched: it stops answering, or is asked for what never ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.audit_log.audit_log import read_log
from clients.deployment.link import SiteLink
from clients.processes.site_processes import WORKER, site_processes
from clients.processes.worker_door import worker_status
from clients.site_file import SiteFile
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import JoinRequest, Refusal, SiteError, VisitRequest
from fedmedpeft.exchange import flower as wire
from fedmedpeft.supervision import Child, supervisor, watch
from fedmedpeft.supervision.leftovers import wait_until
from tests.supervised import Supervised

pytestmark = pytest.mark.slow

Make = Callable[..., SiteFile]
_ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PAUSES", (0.1,))
    monkeypatch.setattr(watch, "_PAUSE", 0.3)


def _worker(site: SiteFile, hung_after: float) -> Child:
    environ = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    child, *_ = site_processes(site, site.directory / "site.yaml", environ, None, 1.0)
    return replace(child, hung_after=hung_after)


def _visit(site: SiteFile, announced: RunConfig, patience: float = 60.0) -> tuple[SiteLink, Any]:
    """A site that has joined, and what it is asked next: far more steps than a test lasts."""
    endless = announced.model_copy(update={"local_steps": 200_000})
    link = SiteLink(site.socket, endless.to_mapping(), patience=patience)
    joined = wire.decode_join_reply(link.ask("join", wire.encode(JoinRequest("run", True))))
    assert joined.state is not None
    return link, wire.encode(VisitRequest("run", 1, False, joined.fingerprint, 0.0, joined.state))


def _noted(site: SiteFile, kind: str) -> list[Any]:
    return [line for line in read_log(site.audit_log).entries if line.kind == kind and line.request == "visit"]


def _site(site_at: Make, **worker: Any) -> SiteFile:
    return site_at(policy={"smallest-count": 0, "most-local-steps": 10**6}, worker=worker)


def test_one_that_stops_answering_is_replaced_and_not_asked_the_same_again(site_at: Make, announced: RunConfig) -> None:
    site = _site(site_at)
    watched = Supervised(site.directory, _worker(site, 4.0))
    refused: list[SiteError] = []

    def act() -> None:
        watched.until("worker: up")
        link, request = _visit(site, announced)

        def ask() -> None:
            with pytest.raises(SiteError) as error:
                link.ask("visit", request)
            refused.append(error.value)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        assert wait_until(lambda: (worker_status(site.socket) or {}).get("busy") == "visit", 30.0)
        time.sleep(5.0)
        assert watched.of(WORKER)["restarts"] == 0, "it trains, and answers"
        os.kill(watched.of(WORKER)["pid"], signal.SIGSTOP)
        watched.until("worker: did not answer for 4 s, and was ended. Next try in 0.1 s.")
        asking.join(60.0)
        assert refused[0].code is Refusal.UNREACHABLE
        assert "stopped answering" in refused[0].reason
        assert (len(_noted(site, "asked")), len(_noted(site, "refused"))) == (1, 1)
        watched.until_often("worker: up", 2)
        assert worker_status(site.socket) is not None

    watched.run(act)


def test_a_request_that_never_ends_is_refused_and_not_asked_again(site_at: Make, announced: RunConfig) -> None:
    site = _site(site_at, **{"longest-request": 12})
    watched = Supervised(site.directory, _worker(site, 60.0))

    def act() -> None:
        watched.until("worker: up")
        link, request = _visit(site, announced)
        began = time.monotonic()
        with pytest.raises(SiteError, match="longer than this site allows") as refused:
            link.ask("visit", request)
        assert refused.value.code is Refusal.UNREACHABLE
        assert 12.0 <= time.monotonic() - began < 40.0
        watched.until_often("worker: up", 2)
        told = watched.of(WORKER)
        assert told["restarts"] == 1
        assert "ended itself: a request lasted longer than worker.longest-request (12 s)" in told["ended"]["why"]
        assert [line.code for line in _noted(site, "refused")] == ["UNREACHABLE"]
        assert len(_noted(site, "asked")) == 1
        assert not _noted(site, "left")

    watched.run(act)
