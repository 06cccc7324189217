"""What Flower's process says it refused, believed no more than it has to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from clients.audit_log.audit_log import read_log
from clients.audit_log.tables import outcome
from clients.deployment.desk import HospitalDesk
from clients.deployment.link import REFUSED_ELSEWHERE, tell_of_refusal
from clients.deployment.other_code import Difference, Told
from clients.deployment.refused_elsewhere import MOST_BYTES, RefusedElsewhere
from clients.deployment.service import service
from clients.site_file import SiteFile
from fedmedpeft.exchange import Refusal, SiteError

Make = Callable[..., SiteFile]
_DIFFERS = "the app that the server sent is not the one installed here ({})"


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (Difference.of("differs", "clients/app.py"), "clients/app.py differs"),
        (Difference.of("missing", "server/provisioning/kit_files.py"), "server/provisioning/kit_files.py is missing"),
        (Difference.of("differs", "patient 4711 was here.py"), "'patient 4711 was here.py' differs"),
        (Difference.of("not-installed", "a\x1b[31m\u202e\n.py"), "'a?[31m??.py' is not installed"),
        (Difference.of("not-installed", "x" * 5000), f"'{'x' * 100}' is not installed"),
        (Difference.of("version", "{file}{0}"), "version '{file}{0}', and here"),
    ],
)
def test_the_words_are_the_check_s_own(difference: Difference, words: str) -> None:
    assert words in difference.reason
    assert len(difference.reason) < 300
    assert Difference.model_validate_json(difference.model_dump_json()).reason == difference.reason


@pytest.mark.parametrize(
    ("message_type", "kind"),
    [("query.join", "join"), ("train.visit", "visit"), ("train", "other"), ("train.evil\n", "other"), ("", "other")],
)
def test_of_which_request(message_type: str, kind: str) -> None:
    assert Told.about(message_type, Difference.of("unreadable")).request == kind


class _Noted:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, request: str, refusal: SiteError) -> None:
        assert refusal.code is Refusal.CODE
        self.lines.append((request, refusal.reason))


_GOOD = Told.about("query.join", Difference.of("differs", "clients/app.py")).model_dump_json().encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        _GOOD + b" " * MOST_BYTES,
        _GOOD.replace(b"differs", b"whatever I say"),
        _GOOD.replace(b'"join"', b'"sell"'),
        _GOOD.replace(b"clients/app.py", b"x" * 300),
        _GOOD.replace(b'"request"', b'"reason":"mine","request"'),
    ],
)
def test_what_is_not_of_the_vocabulary_is_not_noted(content: bytes) -> None:
    noted = _Noted()
    assert not RefusedElsewhere(noted).take(content)
    assert noted.lines == []


def test_no_more_than_so_many_an_hour() -> None:
    clock, noted = [0.0], _Noted()
    elsewhere = RefusedElsewhere(noted, lambda: clock[0])
    for _ in range(500):
        clock[0] += 1.0
        assert elsewhere.take(_GOOD)
    assert len(noted.lines) == 20
    assert noted.lines[0] == ("join", _DIFFERS.format("clients/app.py differs"))
    assert noted.lines[-1][1].endswith("what follows within the hour is not noted")
    clock[0] = 3600.0 + 10.5
    for _ in range(20):
        elsewhere.take(_GOOD)
    assert len(noted.lines) == 30, "those of the first ten seconds are an hour old"


def _posted(desk: HospitalDesk, content: bytes) -> int:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(service(desk, lambda: None))
        async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
            return await client.post(REFUSED_ELSEWHERE, content=content)

    return asyncio.run(post()).status_code


def test_it_is_a_line_of_the_audit_log_while_the_worker_trains(site_at: Make) -> None:
    with HospitalDesk.opened(site_at()) as desk, desk._one:
        assert _posted(desk, _GOOD) == 204
        assert _posted(desk, b"x" * 10_000_000) == 400
        other = Told.about("train.evil", Difference.of("not-installed", "\x1b[2Jevil.py"))
        assert _posted(desk, other.model_dump_json().encode()) == 204
    lines = [line for line in read_log(desk.site.audit_log).entries if line.kind == "refused"]
    assert [outcome(line) for line in lines] == [
        "join: CODE (code): the app that the server sent is not the one installed here (clients/app.py differs)",
        "other: CODE (code): the app that the server sent is not the one installed here "
        "('?[2Jevil.py' is not installed)",
    ]
    assert {(line.run, line.round) for line in lines} == {("", None)}


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("no socket")])
def test_a_worker_that_is_not_there_changes_nothing(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "worker.sock")
    tell_of_refusal(tmp_path / "worker.sock", Told.about("query.join", Difference.of("unreadable")))
