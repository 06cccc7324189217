"""A hospital's desk: what passes, what is refused, and that both are on record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord

from clients.deployment.desk import HospitalDesk
from clients.deployment.link import RUN_CONFIG
from clients.requests import Kind
from clients.site_file import SiteFile
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import JoinReply, JoinRequest, ReferenceRequest, Refusal, SiteError, VisitReply, VisitRequest
from fedmedpeft.exchange import flower as wire

Make = Callable[..., SiteFile]


@pytest.fixture
def desk(site_at: Make) -> Iterator[HospitalDesk]:
    with HospitalDesk.opened(site_at()) as opened:
        yield opened


def _packed(announced: RunConfig, message: wire.AnyMessage) -> bytes:
    content = wire.encode(message)
    content[RUN_CONFIG] = ConfigRecord(announced.to_mapping())  # type: ignore[arg-type]
    return wire.pack(content)


def _join(desk: HospitalDesk, announced: RunConfig) -> JoinReply:
    return wire.decode_join_reply(desk.answer("join", _packed(announced, JoinRequest("run", True))))


def _first_visit(desk: HospitalDesk, announced: RunConfig) -> VisitRequest:
    joined = _join(desk, announced)
    assert joined.state is not None
    return VisitRequest("run", 1, False, joined.fingerprint, 0.0, joined.state)


def _refusal(desk: HospitalDesk, kind: Kind, packed: bytes) -> SiteError:
    with pytest.raises(SiteError) as refused:
        desk.answer(kind, packed)
    return refused.value


def _lines(desk: HospitalDesk) -> list[dict[str, Any]]:
    text = desk.site.audit_log.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_visit_is_trained_sent_and_on_record(desk: HospitalDesk, announced: RunConfig) -> None:
    request = _first_visit(desk, announced)
    content = desk.answer("visit", _packed(announced, request))
    reply: VisitReply = wire.decode_visit_reply(content)
    assert reply.site == "st-mary"
    assert reply.steps == 2
    assert reply.state is not None
    kinds = [line["kind"] for line in _lines(desk)]
    assert kinds == ["opened", "started", "policy", "asked", "left", "asked", "trained", "left"]
    left = _lines(desk)[-1]
    assert left["content_hash"] == wire.seal(content)
    assert left["bytes"] == len(wire.pack(content))
    assert left["update_norm"] > 0
    assert left["round"] == 1
    assert left["scores"] == ["val"]
    assert desk.status.outcome == "answered"
    assert desk.status.run == "run"
    assert not desk.status.busy


def test_the_sites_own_keys_replace_the_servers(desk: HospitalDesk, announced: RunConfig) -> None:
    """The server's data and directories are those of another machine: nothing of the kind is looked at here."""
    _join(desk, announced)
    assert desk._run is not None
    config = desk._run[1].config
    assert config.data == "phantoms(images=120, scanners=3, size=32)"
    assert config.runs_dir == str(desk.site.folder("runs"))
    assert config.partition == "iid"
    assert desk._run[1].partition_hash == ""


def test_the_backbone_is_loaded_once_for_a_run(site_at: Make, announced: RunConfig) -> None:
    from clients.deployment.hospital import hospital_worker

    built = []
    site = site_at()
    with HospitalDesk.opened(site) as opened:
        desk = HospitalDesk(site, opened._log, build=lambda *args: built.append(args) or hospital_worker(*args))  # type: ignore[func-returns-value]
        request = _first_visit(desk, announced)
        desk.answer("visit", _packed(announced, request))
        assert len(built) == 1
        desk.answer("join", _packed(announced.model_copy(update={"local_steps": 3}), JoinRequest("other", False)))
        assert len(built) == 2


def test_an_answer_is_sent_again_and_noted_as_such(desk: HospitalDesk, announced: RunConfig) -> None:
    packed = _packed(announced, _first_visit(desk, announced))
    first = desk.answer("visit", packed)
    assert wire.seal(desk.answer("visit", packed)) == wire.seal(first)
    assert [line["kind"] for line in _lines(desk)[-2:]] == ["asked", "repeated"]


@pytest.mark.parametrize(
    ("policy", "code", "words"),
    [
        ({"methods": ["layernorm"]}, Refusal.POLICY, "method 'lora' is not allowed"),
        ({"most-rounds": 1}, Refusal.POLICY, "rounds=2"),
        ({"approved-runs": ["0" * 64]}, Refusal.POLICY, "approved"),
        ({"backbones": ["0" * 64]}, Refusal.POLICY, "fingerprint"),
        ({"smallest-count": 1000}, Refusal.POLICY, "smallest"),
        ({"most-batch-size": 2}, Refusal.POLICY, "batch-size=4"),
        ({"most-bytes": 100}, Refusal.POLICY, "most-bytes"),
    ],
)
def test_what_the_policy_refuses(
    site_at: Make, announced: RunConfig, policy: dict[str, Any], code: Refusal, words: str
) -> None:
    with HospitalDesk.opened(site_at(policy={"smallest-count": 0} | policy)) as desk:
        refused = _refusal(desk, "join", _packed(announced, JoinRequest("run", True)))
        assert refused.code is code
        assert words in refused.reason
        last = _lines(desk)[-1]
        assert last["kind"] == "refused"
        assert last["reason"] == refused.reason
        assert desk.status.outcome == code.name.lower()


def test_outside_working_hours_nothing_is_loaded(site_at: Make, announced: RunConfig) -> None:
    def never(*_: object) -> Any:
        raise AssertionError("it was loaded")

    site = site_at(policy={"hours": "20:00-06:00", "smallest-count": 0})
    with HospitalDesk.opened(site) as opened:
        noon = HospitalDesk(site, opened._log, clock=lambda: datetime(2026, 1, 5, 12, 0), build=never)
        refused = _refusal(noon, "join", _packed(announced, JoinRequest("run", False)))
        assert refused.code is Refusal.LATER
        assert "20:00-06:00" in refused.reason


def test_a_dry_run_trains_writes_and_sends_nothing(site_at: Make, announced: RunConfig) -> None:
    with HospitalDesk.opened(site_at(policy={"dry-run": True, "smallest-count": 0})) as desk:
        refused = _refusal(desk, "join", _packed(announced, JoinRequest("run", True)))
        assert refused.code is Refusal.DRY_RUN
        files = sorted(path.name for path in desk.site.folder("dry-run").iterdir())
        assert files == [f"run--{kind}.{end}" for kind in ("join-0000", "visit-0001") for end in ("bin", "json")]
        lines = _lines(desk)
        assert [line["kind"] for line in lines[-4:]] == ["dry_run", "trained", "dry_run", "refused"]
        sent = wire.decode_visit_reply(wire.unpack((desk.site.folder("dry-run") / files[2]).read_bytes()))
        assert sent.steps == 2
        assert sent.state is not None
        assert not any(line["kind"] == "left" for line in lines)


def test_a_dry_run_leaves_nothing_in_the_way_of_the_run(site_at: Make, announced: RunConfig) -> None:
    """What it trained is not the answer that the run gets."""
    with HospitalDesk.opened(site_at(policy={"dry-run": True, "smallest-count": 0})) as desk:
        _refusal(desk, "join", _packed(announced, JoinRequest("run", True)))
    with HospitalDesk.opened(site_at(policy={"smallest-count": 0})) as desk:
        desk.answer("visit", _packed(announced, _first_visit(desk, announced)))
        assert _lines(desk)[-1]["kind"] == "left"


def test_without_a_list_of_classes_none_are_told(site_at: Make, announced: RunConfig) -> None:
    site = site_at(data={"source": "phantoms(images=120, scanners=3, size=32)", "rows-of": "scanner-01"})
    with HospitalDesk.opened(site) as desk:
        refused = _refusal(desk, "join", _packed(announced, JoinRequest("run", True)))
        assert refused.code is Refusal.CONFIGURATION
        assert "mottled" not in refused.reason


def test_a_reference_is_refused_and_the_run_goes_on(desk: HospitalDesk, announced: RunConfig) -> None:
    packed = _packed(announced, ReferenceRequest("local-only"))
    assert _refusal(desk, "reference", packed).code is Refusal.POLICY
    assert _join(desk, announced).site == "st-mary"


def test_scores_of_few_samples_stay_here_and_are_named(site_at: Make, announced: RunConfig) -> None:
    with HospitalDesk.opened(site_at(policy={"smallest-count": 12})) as desk:
        announced = announced.model_copy(update={"local_steps": 3})
        joined = _join(desk, announced)
        assert joined.samples["val"] == 0
        assert joined.samples["train"] >= 12
        assert joined.state is not None
        request = VisitRequest("run", 1, False, joined.fingerprint, 0.0, joined.state)
        reply = wire.decode_visit_reply(desk.answer("visit", _packed(announced, request)))
        assert reply.before == {}
        assert reply.withheld == "val"


def test_a_hostile_state_is_refused_before_training(desk: HospitalDesk, announced: RunConfig) -> None:
    request = _first_visit(desk, announced)
    far = {part: vector * np.float32(50) for part, vector in request.state.vectors.items()}
    refused = _refusal(desk, "visit", _packed(announced, replace(request, state=replace(request.state, vectors=far))))
    assert refused.code is Refusal.CONTRACT
    assert not any(line["kind"] == "trained" for line in _lines(desk))


def test_a_run_that_is_no_name_touches_no_file(desk: HospitalDesk, announced: RunConfig, tmp_path: Path) -> None:
    request = replace(_first_visit(desk, announced), run="../../../outside")
    before = sorted(tmp_path.rglob("*"))
    refused = _refusal(desk, "visit", _packed(announced, request))
    assert refused.code is Refusal.CONTRACT
    assert "name" in refused.reason
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unforeseen_error_keeps_its_words_at_the_site(
    desk: HospitalDesk, announced: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _first_visit(desk, announced)

    def fails(*_: object, **__: object) -> None:
        raise ValueError("patient 4711 in /data/secret.png")

    monkeypatch.setattr("clients.worker.SiteWorker.visit_anew", fails)
    refused = _refusal(desk, "visit", _packed(announced, request))
    assert refused.code is Refusal.INTERNAL
    assert "secret" not in refused.reason
    assert "secret" not in desk.site.audit_log.read_text(encoding="utf-8")
    assert "secret" not in str(desk.status)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device: /data"), Refusal.DISK),
        (MemoryError(), Refusal.MEMORY),
        (RuntimeError("not enough memory: you tried to allocate"), Refusal.MEMORY),
    ],
)
def test_what_the_machine_lacks_is_said(
    desk: HospitalDesk, announced: RunConfig, monkeypatch: pytest.MonkeyPatch, error: Exception, code: Refusal
) -> None:
    request = _first_visit(desk, announced)

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("clients.worker.SiteWorker.visit_anew", fails)
    assert _refusal(desk, "visit", _packed(announced, request)).code is code


def test_nothing_leaves_without_the_audit_log(desk: HospitalDesk, announced: RunConfig) -> None:
    request = _packed(announced, _first_visit(desk, announced))
    desk.site.audit_log.write_bytes(b"".join(desk.site.audit_log.read_bytes().splitlines(keepends=True)[:-1]))
    refused = _refusal(desk, "visit", request)
    assert refused.code is Refusal.DISK
    assert str(desk.site.state_directory) not in refused.reason


def test_a_desk_does_not_open_over_a_damaged_log(site_at: Make) -> None:
    site = site_at()
    with HospitalDesk.opened(site):
        pass
    site.audit_log.write_bytes(site.audit_log.read_bytes()[:-20] + b"}\n")
    with pytest.raises(ConfigError, match="does not verify"), HospitalDesk.opened(site):
        pass


@pytest.mark.parametrize("packed", [b"", b"\x00\x01garbage", wire.pack(wire.encode(JoinRequest("run", True)))])
def test_bytes_that_are_no_request_are_refused(desk: HospitalDesk, packed: bytes) -> None:
    assert _refusal(desk, "join", packed).code is Refusal.CONTRACT
    assert [line["kind"] for line in _lines(desk)[-2:]] == ["asked", "refused"]


def test_a_notice_of_the_server_is_noted(desk: HospitalDesk, announced: RunConfig) -> None:
    request = replace(_first_visit(desk, announced), notice="update norm is 40 spreads above the others'")
    desk.answer("visit", _packed(announced, request))
    notes = [line for line in _lines(desk) if line["kind"] == "notice"]
    assert [note["words"] for note in notes] == ["update norm is 40 spreads above the others'"]
