from __future__ import annotations

import time
from typing import Any

import pytest

from clients.audit_log.audit_log import AuditLog
from clients.audit_log.events import Asked, Left, Repeated
from simulations.poc import signs
from simulations.poc.stage import Stage

_OF: dict[str, Any] = {"bytes": 3, "content_hash": "0" * 64}


def test_answers_are_those_that_left(stage: Stage) -> None:
    site = stage.site("scanner-00")
    assert signs.answered_rounds(site) == {}
    log = AuditLog.open(site.audit_log, site=site.site)
    for event in (
        Asked(request="visit", run="poc", round=1, **_OF),
        Left(request="join", run="poc", **_OF),
        Left(request="visit", run="poc", round=1, **_OF),
        Repeated(request="visit", run="poc", round=1, **_OF),
        Asked(request="visit", run="poc", round=2, **_OF),
    ):
        log.note(event)
    assert signs.answered_rounds(site) == {1: ["left", "repeated"]}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"busy": "visit", "round": 1, "ago": 2.0}, True),
        ({"busy": "visit", "round": 1, "ago": 0.1}, False),
        ({"busy": "visit", "round": 2, "ago": 2.0}, False),
        ({"busy": "join", "round": 1, "ago": 2.0}, False),
        ({"busy": "", "round": 1, "ago": 2.0}, False),
        (None, False),
    ],
)
def test_a_site_trains_once_it_is_well_into_its_visit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, status: dict[str, Any] | None, expected: bool
) -> None:
    told = None if status is None else {**status, "since": time.time() - status["ago"]}
    monkeypatch.setattr(signs, "worker_status", lambda socket: told)
    assert signs.is_training(stage.site("scanner-00"), 1) is expected


def test_a_server_that_does_not_answer_knows_no_site(stage: Stage) -> None:
    assert signs.known_sites(stage.server) == {}
