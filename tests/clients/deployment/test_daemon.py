"""The worker as a process of its own, asked over its socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from clients.deployment.link import SiteLink
from clients.site_file import SiteFile
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import JoinRequest, Refusal, SiteError, VisitRequest
from fedmedpeft.exchange import flower as wire

_ROOT = Path(__file__).parents[3]


@contextmanager
def _daemon(site: SiteFile) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "clients.deployment.daemon", str(site.directory / "site.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    log = (site.directory / "daemon.log").open("ab")
    process = subprocess.Popen(command, env=environment, cwd=site.directory, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        log.close()


def _get(site: SiteFile, path: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(site.socket)), trust_env=False) as client:
        return client.get(f"http://site{path}")


@pytest.fixture
def site(site_at: Callable[..., SiteFile]) -> SiteFile:
    return site_at()


def _visit(link: SiteLink) -> VisitRequest:
    joined = wire.decode_join_reply(link.ask("join", wire.encode(JoinRequest("run", True))))
    assert joined.state is not None
    return VisitRequest("run", 1, False, joined.fingerprint, 0.0, joined.state)


@pytest.mark.slow
def test_a_visit_over_the_socket_survives_the_workers_end(site: SiteFile, announced: RunConfig) -> None:
    link = SiteLink(site.socket, announced.to_mapping(), patience=60)
    with _daemon(site) as first:
        request = wire.encode(_visit(link))
        reply = link.ask("visit", request)
        assert wire.decode_visit_reply(reply).steps == 2
        assert oct(site.socket.stat().st_mode & 0o777) == "0o600"
        assert oct(site.state_directory.stat().st_mode & 0o777) == "0o700"
        assert _get(site, "/v1/status").json()["pid"] == first.pid
        with pytest.raises(SiteError, match="does not do"):
            link.ask("sell", request)
        second = subprocess.run(
            [sys.executable, "-m", "clients.deployment.daemon", str(site.directory / "site.yaml")],
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 2
        assert "runs already" in second.stdout
    # Killed: its socket lies there still, and nobody answers.
    assert site.socket.exists()
    with pytest.raises(SiteError, match="not running") as refused:
        SiteLink(site.socket, announced.to_mapping(), patience=0.2).ask("visit", request)
    assert refused.value.code is Refusal.UNREACHABLE
    with _daemon(site) as again:
        assert wire.seal(link.ask("visit", request)) == wire.seal(reply)
        again.send_signal(signal.SIGTERM)
        assert again.wait(20) == 0
    assert '"kind":"stopped"' in site.audit_log.read_text(encoding="utf-8").splitlines()[-1]


@pytest.mark.slow
def test_a_worker_killed_while_it_trains_is_asked_again(site: SiteFile, announced: RunConfig) -> None:
    """The link sends the request once more to the worker that was started in its place."""
    import threading

    slow = announced.model_copy(update={"local_steps": 400})
    link = SiteLink(site.socket, slow.to_mapping(), patience=60)
    answers = []
    with _daemon(site) as first:
        request = wire.encode(_visit(link))
        asking = threading.Thread(target=lambda: answers.append(link.ask("visit", request)))
        asking.start()
        while _get(site, "/v1/status").json()["busy"] != "visit":
            time.sleep(0.02)
        time.sleep(0.3)
        assert not answers
        first.kill()
        first.wait()
    with _daemon(site):
        asking.join(60)
    assert wire.decode_visit_reply(answers[0]).steps == 400


def test_flowers_process_loads_neither_torch_nor_the_worker() -> None:
    code = (
        "import sys, clients.app, clients.deployment.link\n"
        "assert not {'torch', 'transformers', 'clients.worker'} & set(sys.modules), 'too much'"
    )
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
