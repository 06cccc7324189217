from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from clients.preflight.check import Result
from clients.preflight.credentials import check_key
from clients.preflight.facts import Facts
from clients.preflight.login import check_clock, check_registered
from clients.preflight.network import check_proxy
from fedmedpeft.site_identity import fingerprint
from tests.clients.preflight.tls_server import Authority, FlowerServer, flower_server

Joined = Callable[[FlowerServer], AbstractContextManager[Facts]]


@pytest.fixture
def joined(facts_of: Callable[..., Facts], authority: Authority, tmp_path: Path) -> Joined:
    """A server that is up, and a site that knows where it is; its key is read."""

    @contextmanager
    def run(server: FlowerServer) -> Iterator[Facts]:
        with flower_server(authority.server(tmp_path), server) as port:
            facts = facts_of(server={"address": f"127.0.0.1:{port}"})
            check_proxy(facts)
            check_key(facts)
            yield facts

    return run


@pytest.mark.parametrize(
    ("skew", "status", "words"),
    [
        (0, "pass", ""),
        (30, "pass", "30 s behind"),
        (120, "warn", "120 s behind"),
        (400, "fail", "400 s behind"),
        (-4, "warn", "s ahead of"),
        (-20, "fail", "s ahead of"),
    ],
)
def test_the_clock(joined: Joined, skew: float, status: str, words: str) -> None:
    """``skew`` is the server's: where it is ahead, this clock is behind."""
    server = FlowerServer()
    server.skew = skew
    with joined(server) as facts:
        result = check_clock(facts)
    assert (result.status, words in result.text) == (status, True), result.text


def test_a_server_that_does_not_tell_the_time(joined: Joined) -> None:
    server = FlowerServer()
    server.dated = False
    with joined(server) as facts:
        assert check_clock(facts).status == "warn"


def _registered(joined: Joined, server: FlowerServer, *, known: bool = True) -> Result:
    with joined(server) as facts:
        if known:
            server.known.add(public_key_to_bytes(facts.key.public_key()))
        return check_registered(facts)


def test_a_key_that_the_server_knows_is_not_brought_online(joined: Joined) -> None:
    server = FlowerServer()
    result = _registered(joined, server)
    assert (result.status, server.activated) == ("pass", []), result


def test_a_key_that_the_server_does_not_know(joined: Joined) -> None:
    server = FlowerServer()
    with joined(server) as facts:
        result = check_registered(facts)
        assert fingerprint(facts.key.public_key()) in result.text
    assert (result.status, "does not know" in result.text, server.activated) == ("fail", True, [])


@pytest.mark.parametrize(("shift", "status"), [(-3, "pass"), (-8, "fail"), (290, "pass"), (320, "fail")])
def test_flowers_own_tolerance_of_the_clock(
    joined: Joined, monkeypatch: pytest.MonkeyPatch, shift: float, status: str
) -> None:
    """``shift`` seconds is the server's clock ahead of this one: Flower takes less of a site that is ahead."""

    def shifted() -> datetime:
        return now() + timedelta(seconds=shift)

    monkeypatch.setattr("flwr.superlink.routers.fleet.node_auth.now", shifted)
    result = _registered(joined, FlowerServer())
    assert result.status == status
    assert status == "pass" or "signature" in result.text


def test_a_server_that_is_not_flowers(joined: Joined) -> None:
    server = FlowerServer()
    server.fleet = False
    result = _registered(joined, server)
    assert (result.status, "404" in result.text) == ("fail", True)
    assert "/v1/fleet/" in result.fix


def test_a_server_that_is_gone(joined: Joined) -> None:
    with joined(FlowerServer()) as facts:
        pass
    assert check_clock(facts).status == check_registered(facts).status == "fail"
