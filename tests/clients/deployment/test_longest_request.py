"""A request that never ends: the server is told, nobody asks it again, and the worker ends itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from flwr.app import ConfigRecord

from clients.audit_log.audit_log import read_log
from clients.deployment import service as service_module
from clients.deployment.desk import HospitalDesk
from clients.deployment.link import RUN_CONFIG, TRY, VERSION
from clients.deployment.longest_request import LongestRequest
from clients.deployment.service import service
from clients.deployment.status import Status
from clients.site_file import SiteFile
from fedmedpeft import __version__
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import JoinRequest, Refusal
from fedmedpeft.exchange import flower as wire

Make = Callable[..., SiteFile]


def test_it_goes_by_a_clock_that_nobody_sets() -> None:
    """Not by the time of day at which a request began: that may be set while it lasts."""
    clock, now = [0.0], [Status(1, 0.0)]
    longest = LongestRequest(lambda: now[0], 60.0, lambda: clock[0])
    never = LongestRequest(lambda: now[0], 0.0, lambda: clock[0])

    def passed_at(seconds: float) -> bool:
        clock[0] = seconds
        assert not never.passed()
        return longest.passed()

    assert not passed_at(1000.0), "nothing was asked"
    now[0] = replace(now[0], busy="visit", since=5.0)
    assert not passed_at(1001.0)
    assert not passed_at(1060.0)
    now[0] = replace(now[0], since=6.0)
    assert not passed_at(1062.0), "another request"
    assert not passed_at(1121.0)
    assert passed_at(1122.0)


@pytest.fixture
def stuck(site_at: Make) -> Iterator[tuple[HospitalDesk, threading.Event]]:
    """A desk whose disk with the data does not answer, until the event."""
    answers = threading.Event()
    with HospitalDesk.opened(site_at(worker={"longest-request": 1})) as desk:

        def build(site: SiteFile, config: RunConfig) -> Any:
            answers.wait(60.0)
            raise OSError("the disk is back, too late")

        desk._build = build
        yield desk, answers
        answers.set()


def _packed(announced: RunConfig) -> bytes:
    content = wire.encode(JoinRequest("run", True))
    content[RUN_CONFIG] = ConfigRecord(announced.to_mapping())
    return wire.pack(content)


def test_it_is_refused_noted_and_the_process_ends(
    stuck: tuple[HospitalDesk, threading.Event], announced: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_LOOK", 0.05)
    monkeypatch.setattr(service_module, "_TO_ANSWER", 0.05)
    desk, answers = stuck
    ended = asyncio.Event()
    headers = {VERSION: __version__}

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(service(desk, ended.set))
        async with httpx.AsyncClient(transport=transport, base_url="http://site", timeout=30.0) as client:
            asks = [client.post("/v1/join", content=_packed(announced), headers=headers) for _ in range(2)]
            tasks = [asyncio.create_task(one) for one in asks]
            assert (await client.get("/v1/health")).status_code == 200
            both = list(await asyncio.gather(*tasks))
            assert not ended.is_set(), "not before the answers were given"
            await asyncio.wait_for(ended.wait(), 10.0)
            # So that asyncio can wait for the threads, which a process that ends itself does not.
            answers.set()
            return both

    for response in asyncio.run(ask()):
        told = response.json()
        assert (response.status_code, told["code"]) == (409, Refusal.UNREACHABLE)
        assert "longer than this site allows (worker.longest-request)" in told["reason"]
    first, *_ = [line for line in read_log(desk.site.audit_log).entries if line.kind == "refused"]
    assert (first.request, first.run, first.code) == ("join", "run", "UNREACHABLE")


def test_a_log_that_does_not_answer_either_holds_nothing_up(
    stuck: tuple[HospitalDesk, threading.Event], announced: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, answers = stuck
    for name, seconds in (("_LOOK", 0.05), ("_TO_NOTE", 0.1), ("_TO_ANSWER", 0.0)):
        monkeypatch.setattr(service_module, name, seconds)
    monkeypatch.setattr(desk, "note_refused", lambda *_: answers.wait(60.0))
    ended = asyncio.Event()

    async def ask() -> None:
        transport = httpx.ASGITransport(service(desk, ended.set))
        async with httpx.AsyncClient(transport=transport, base_url="http://site", timeout=30.0) as client:
            await client.post("/v1/join", content=_packed(announced), headers={VERSION: __version__})
            await asyncio.wait_for(ended.wait(), 10.0)
            answers.set()

    asyncio.run(ask())


@pytest.mark.parametrize(("after_hang", "number", "done"), [(True, "1", True), (True, "2", False), (False, "2", True)])
def test_what_a_worker_hung_over_is_not_done_again(
    site_at: Make, announced: RunConfig, after_hang: bool, number: str, done: bool
) -> None:
    asked: list[str] = []
    with HospitalDesk.opened(site_at()) as desk:
        desk.answer = lambda kind, packed: asked.append(kind) or wire.encode(JoinRequest("run", True))  # type: ignore

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(service(desk, lambda: None, after_hang=after_hang))
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
                headers = {VERSION: __version__, TRY: number}
                return await client.post("/v1/join", content=_packed(announced), headers=headers)

        response = asyncio.run(ask())
    assert asked == (["join"] if done else [])
    if not done:
        assert response.json()["code"] == Refusal.UNREACHABLE
        assert "stopped answering" in response.json()["reason"]
    assert sum(line.kind == "refused" for line in read_log(desk.site.audit_log).entries) == (0 if done else 1)
