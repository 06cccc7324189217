"""A server that wants a site to crash, to fill its disk, or to say more than a run needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.app import ConfigRecord

from clients.deployment.desk import HospitalDesk
from clients.deployment.link import RUN_CONFIG, VERSION
from clients.deployment.log_lines import _norm
from clients.deployment.service import service
from clients.requests import Kind
from clients.site_file import SiteFile
from fedmedpeft import __version__
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import (
    AnswersRequest,
    EncodedState,
    JoinRequest,
    ReferenceRequest,
    Refusal,
    SiteError,
    VisitRequest,
)
from fedmedpeft.exchange import flower as wire

Make = Callable[..., SiteFile]


@pytest.fixture
def desk(site_at: Make) -> Iterator[HospitalDesk]:
    with HospitalDesk.opened(site_at()) as opened:
        yield opened


def _packed(announced: RunConfig, message: wire.AnyMessage, **changed: Any) -> bytes:
    content = wire.encode(message)
    values = announced.to_mapping() | {key.replace("_", "-"): value for key, value in changed.items()}
    content[RUN_CONFIG] = ConfigRecord(values)
    return wire.pack(content)


def _refusal(desk: HospitalDesk, kind: Kind, packed: bytes) -> SiteError:
    with pytest.raises(SiteError) as refused:
        desk.answer(kind, packed)
    return refused.value


def _visit(desk: HospitalDesk, announced: RunConfig, run: str = "run", **changed: Any) -> VisitRequest:
    content = desk.answer("join", _packed(announced, JoinRequest(run, True), **changed))
    joined = wire.decode_join_reply(content)
    assert joined.state is not None
    return VisitRequest(run, 1, False, joined.fingerprint, 0.0, joined.state)


def test_two_divisions_that_differ_in_a_patient_are_not_both_scored(desk: HospitalDesk, announced: RunConfig) -> None:
    request = _visit(desk, announced)
    desk.answer("visit", _packed(announced, request))
    other = _packed(announced, replace(request, run="other"), val_fraction=0.2)
    refused = _refusal(desk, "visit", other)
    assert refused.code is Refusal.POLICY
    assert "val-fraction" in refused.reason


def test_a_count_below_the_smallest_is_not_found_by_trying(site_at: Make, announced: RunConfig) -> None:
    """Which of two reasons it was refused for would say whether it has as many training images as a run wants."""
    data = {"source": "phantoms(images=30, scanners=3, size=32)", "rows-of": "scanner-01"}
    classes = ["mottled", "multifocal", "smooth", "spiculated"]
    with HospitalDesk.opened(site_at(data=data | {"classes": classes}, policy={"smallest-count": 10})) as desk:
        request, refused = JoinRequest("run", False), set()
        for wanted in range(1, 20):
            error = _refusal(desk, "join", _packed(announced, request, local_steps=5, min_train_per_site=wanted))
            refused.add((error.code, error.reason))
        assert len(refused) == 1
        ((code, reason),) = refused
        assert (code, "smallest-count" in reason) == (Refusal.POLICY, True)


@pytest.mark.parametrize(
    "method",
    ["lora(rank=1000000000)", "pfeiffer(bottleneck=50000000)", "prefix(tokens=50000000)", "peft:vera(r=20000000)"],
)
def test_a_method_larger_than_the_machine_is_counted_not_made(
    desk: HospitalDesk, announced: RunConfig, method: str
) -> None:
    began = time.monotonic()
    refused = _refusal(desk, "join", _packed(announced, JoinRequest("run", False), method=method))
    assert refused.code is Refusal.POLICY
    assert "most-bytes" in refused.reason
    assert time.monotonic() - began < 30
    assert _visit(desk, announced).run == "run"


def test_the_test_split_is_not_looked_at_before_the_end(desk: HospitalDesk, announced: RunConfig) -> None:
    request = replace(_visit(desk, announced), last=True)
    for early in (1, 2):
        refused = _refusal(desk, "visit", _packed(announced, replace(request, round=early)))
        assert refused.code is Refusal.CONTRACT
        assert "last visit" in refused.reason
    desk.answer("visit", _packed(announced, replace(request, round=3)))


def test_one_state_of_a_run_is_tested(desk: HospitalDesk, announced: RunConfig) -> None:
    """Counts of two states that differ in what they say of one image differ by that image."""
    request = replace(_visit(desk, announced), round=3, last=True)
    first = desk.answer("visit", _packed(announced, request))
    again = desk.answer("visit", _packed(announced, request))
    assert again.metric_records == first.metric_records
    near = {part: vector + np.float32(1e-4) for part, vector in request.state.vectors.items()}
    other = replace(request, state=replace(request.state, vectors=near))
    for hostile in (other, replace(request, proximal=1.0)):
        refused = _refusal(desk, "visit", _packed(announced, hostile))
        assert (refused.code, "tested" in refused.reason) == (Refusal.REPEATED, True)
    desk.answer("visit", _packed(announced, replace(request, round=1, last=False)))
    assert _refusal(desk, "visit", _packed(announced, other)).code is Refusal.REPEATED
    desk.answer("visit", _packed(announced, request))


def test_a_run_that_only_tests_is_one_that_keeps_something(site_at: Make, announced: RunConfig) -> None:
    with HospitalDesk.opened(site_at(policy={"smallest-count": 0, "most-runs": 1})) as desk:
        request = replace(_visit(desk, announced, personalise_steps=0), round=3, last=True)
        desk.answer("visit", _packed(announced, request, personalise_steps=0))
        refused = _refusal(desk, "visit", _packed(announced, replace(request, run="two"), personalise_steps=0))
        assert "most-runs" in refused.reason


def test_a_round_is_not_asked_for_over_and_over(desk: HospitalDesk, announced: RunConfig) -> None:
    request = _visit(desk, announced)
    most = announced.rounds + 1 + 20
    for number in range(most):
        desk.answer("visit", _packed(announced, replace(request, proximal=1e-6 * (number + 1))))
    refused = _refusal(desk, "visit", _packed(announced, request))
    assert (refused.code, f"{most} at most" in refused.reason) == (Refusal.REPEATED, True)
    # What was answered can still be asked for.
    desk.answer("visit", _packed(announced, replace(request, proximal=1e-6 * most)))


def test_what_is_refused_is_no_look(desk: HospitalDesk, announced: RunConfig) -> None:
    request = _visit(desk, announced)
    far = {part: vector + np.float32(1) for part, vector in request.state.vectors.items()}
    hostile = replace(request, round=3, last=True, state=replace(request.state, vectors=far))
    assert _refusal(desk, "visit", _packed(announced, hostile)).code is Refusal.CONTRACT
    desk.answer("visit", _packed(announced, replace(request, round=3, last=True)))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"visits": "x", "tested": ""}', "\xff"])
def test_looks_that_cannot_be_read_are_none(desk: HospitalDesk, announced: RunConfig, text: str) -> None:
    request = _visit(desk, announced)
    desk.answer("visit", _packed(announced, request))
    path = desk.site.folder("runs") / "run" / "looks.json"
    path.write_text(text, encoding="latin-1")
    refused = _refusal(desk, "visit", _packed(announced, replace(request, round=2)))
    assert (refused.code, "damaged" in refused.reason) == (Refusal.STATE, True)


@pytest.mark.parametrize("run", ["dry-run-run", "a" * 201, "\u00e9" * 101, "../x", "", "a\nb"])
@pytest.mark.parametrize("kind", ["join", "answers", "reference"])
def test_names_of_runs_that_a_site_does_not_take(
    desk: HospitalDesk, announced: RunConfig, kind: Kind, run: str
) -> None:
    messages = {"join": JoinRequest(run, False), "answers": AnswersRequest(run)}
    message = messages.get(kind, ReferenceRequest("local-only", run))
    refused = _refusal(desk, kind, _packed(announced, message))
    assert (refused.code, "run's name" in refused.reason) == (Refusal.CONTRACT, True)
    assert desk.status.run == ""


def test_a_rehearsal_is_not_taken_for_an_answer_that_left(site_at: Make, announced: RunConfig) -> None:
    with HospitalDesk.opened(site_at(policy={"smallest-count": 0, "dry-run": True})) as desk:
        assert _refusal(desk, "join", _packed(announced, JoinRequest("run", True))).code is Refusal.DRY_RUN
    with HospitalDesk.opened(site_at()) as desk:
        request = replace(_visit(desk, announced), run="dry-run-run")
        assert _refusal(desk, "visit", _packed(announced, request)).code is Refusal.CONTRACT


def test_runs_do_not_fill_the_disk(site_at: Make, announced: RunConfig) -> None:
    with HospitalDesk.opened(site_at(policy={"smallest-count": 0, "most-runs": 2})) as desk:
        request = _visit(desk, announced)
        for run in ("one", "two"):
            desk.answer("visit", _packed(announced, replace(request, run=run)))
        refused = _refusal(desk, "visit", _packed(announced, replace(request, run="three")))
        assert refused.code is Refusal.POLICY
        assert "most-runs: 2" in refused.reason
        runs = desk.site.folder("runs")
        assert sorted(path.name for path in runs.iterdir()) == ["one", "two"]
        desk.answer("visit", _packed(announced, replace(request, run="two")))


def test_a_rehearsal_counts_as_its_run(site_at: Make, announced: RunConfig) -> None:
    with HospitalDesk.opened(site_at(policy={"smallest-count": 0, "most-runs": 1, "dry-run": True})) as desk:
        for _ in range(2):
            assert _refusal(desk, "join", _packed(announced, JoinRequest("run", True))).code is Refusal.DRY_RUN
        assert _refusal(desk, "join", _packed(announced, JoinRequest("other", True))).code is Refusal.POLICY


def test_a_refused_first_round_takes_nothing_from_the_run_of_that_name(
    desk: HospitalDesk, announced: RunConfig
) -> None:
    request = _visit(desk, announced)
    desk.answer("visit", _packed(announced, request))
    kept = {path: path.read_bytes() for path in desk.site.folder("runs").rglob("*.safetensors")}
    far = {part: vector + np.float32(1) for part, vector in request.state.vectors.items()}
    hostile = replace(request, state=replace(request.state, vectors=far))
    assert _refusal(desk, "visit", _packed(announced, hostile)).code is Refusal.CONTRACT
    assert {path: path.read_bytes() for path in desk.site.folder("runs").rglob("*.safetensors")} == kept


@pytest.mark.parametrize("key", ["method", "strategy", "privacy", "data", "no-such-key"])
def test_a_configuration_of_a_million_letters_is_not_read(desk: HospitalDesk, announced: RunConfig, key: str) -> None:
    began = time.monotonic()
    refused = _refusal(desk, "join", _packed(announced, JoinRequest("run", False), **{key: "a" * 1_000_000}))
    assert (refused.code, "characters" in refused.reason) == (Refusal.CONTRACT, True)
    assert time.monotonic() - began < 1


def test_a_message_that_is_too_large_is_not_kept_in_memory(site_at: Make, announced: RunConfig) -> None:
    site = site_at(policy={"most-bytes": 1000})
    with HospitalDesk.opened(site) as desk:
        read: list[int] = []
        desk.answer, answer = lambda kind, packed: read.append(len(packed)) or answer(kind, packed), desk.answer  # type: ignore
        transport = httpx.ASGITransport(service(desk, lambda: None))

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
                return await client.post("/v1/join", content=b"x" * 30_000_000, headers={VERSION: __version__})

        response = asyncio.run(ask())
        assert response.json()["code"] == Refusal.POLICY
        assert "most-bytes" in response.json()["reason"]
        assert read == [4_001_001]


def test_the_norm_of_what_came_takes_no_copy_of_it(tmp_path: Path) -> None:
    """A message of bytes that are read as 8-byte numbers would take eight times its size, before it is checked."""
    import tracemalloc

    vector = np.ones(20_000_000, np.float32)
    tracemalloc.start()
    norm = _norm(EncodedState("", {"head": vector}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert norm == pytest.approx(np.sqrt(20e6))
    assert peak < vector.nbytes / 2


@pytest.mark.parametrize(
    "odd",
    [np.zeros(3, np.int8), np.array(["a"]), np.zeros(2, "M8[s]"), np.zeros((1, 2), np.float32), np.zeros(3, "c16")],
)
def test_what_no_state_is_made_of_has_no_norm(odd: np.ndarray) -> None:
    assert _norm(EncodedState("", {"head": odd})) is None
