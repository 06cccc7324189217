"""What may leave leaves as it is; what may not is refused with a rule that says nothing of the answer."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.egress import gate as gate_module
from clients.egress.gate import EgressGate
from clients.egress.refused import EgressRefused
from clients.egress.sent_bytes import SentBytes
from clients.egress.withholding import Reply
from clients.policy_section import PolicySection
from fedmedpeft.exchange import EncodedState, PeftState, Refusal, Scores
from fedmedpeft.exchange import flower as wire
from tests.clients.egress.answers import (
    CONTRACT,
    FINGERPRINT,
    JOIN,
    LAST,
    MANIFEST,
    POLICY,
    REFERENCE,
    REPLIES,
    SITE,
    START,
    TASK,
    TRAINED,
    VISIT,
    gate,
    scores,
    state,
    terms,
)


def _let_out(reply: Reply, section: PolicySection = POLICY) -> Any:
    known = terms(reply, section)
    return gate(reply, section).let_out(reply, known.contract, known.start)


def _changed(section: PolicySection = POLICY, **values: Any) -> PolicySection:
    return section.model_copy(update=values)


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_an_answer_leaves_as_it_was_encoded(reply: Reply) -> None:
    assert wire.pack(_let_out(reply)) == wire.pack(wire.encode(reply))


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), min_size=4, max_size=4), st.floats(0, 1e6))
def test_any_valid_visit_arrives_bit_for_bit(seed: int, counts: list[int], loss: float) -> None:
    section = _changed(smallest_count=0)
    before = {"val": scores(*counts) if sum(counts) else Scores(0, math.nan, {}, counts)}
    reply = replace(VISIT, before=before, loss=loss, state=state(seed).encode())
    arrived = wire.decode_visit_reply(_let_out(reply, section))
    assert arrived.state is not None
    assert reply.state is not None
    for part, vector in reply.state.vectors.items():
        assert arrived.state.vectors[part].tobytes() == vector.tobytes()
    assert repr(replace(arrived, state=None)) == repr(replace(reply, state=None))  # nan is equal to nan, as text


_WRONG: dict[str, tuple[Reply, str]] = {
    "another site": (replace(VISIT, site="patient 4711"), "field 'site'"),
    "a private unit that is none": (replace(VISIT, private="patient 4711"), "field 'private'"),
    "words in withheld": (replace(VISIT, withheld="loss,patient 4711"), "field 'withheld'"),
    "classes of a patient": (replace(JOIN, classes="cyst\npatient 4711"), "field 'classes'"),
    "a hash of something else": (replace(JOIN, state_hash="0" * 64), "field 'state_hash'"),
    "another backbone": (replace(JOIN, fingerprint="0" * 64), "field 'fingerprint'"),
    "a reason with a file name": (replace(JOIN, skipped={"patient-4711.png": 9}), "keeps back|public"),
    "an infinite loss": (replace(VISIT, loss=math.inf), "field 'loss'"),
    "scores without a loss": (
        replace(VISIT, before={"val": replace(scores(10, 5, 0, 15), loss=math.nan)}),
        "loss that is not finite",
    ),
    "a negative time": (replace(VISIT, seconds=-1.0), "field 'seconds'"),
    "an endless epsilon": (replace(VISIT, epsilon=math.inf), "field 'epsilon'"),
    "a split nobody asked for": (replace(VISIT, before={**VISIT.before, "own-val": scores(9, 0, 0, 9)}), "not asked"),
    "no scores, and not said": (replace(VISIT, before={}), "neither scored nor withheld"),
    "scored and withheld": (replace(VISIT, withheld="val"), "keeps back"),
    "a loss of the last visit": (replace(LAST, loss=0.1), "without training"),
    "a metric of no counts": (
        replace(VISIT, before={"val": replace(scores(10, 5, 0, 15), metrics={"accuracy": 0.123456})}),
        "metric 'accuracy'",
    ),
    "auroc outside 0 and 1": (replace(VISIT, before={"val": scores(10, 5, 0, 15, auroc=4711.0)}), "metric 'auroc'"),
    "a number for each sample": (
        replace(VISIT, before={"val": replace(scores(10, 5, 0, 15), counts=[1] * 30)}),
        "not the task's",
    ),
    "counts of other samples": (
        replace(VISIT, before={"val": replace(scores(10, 5, 0, 15), samples=31)}),
        "cannot be those",
    ),
    "a reference without scores, and not said": (replace(REFERENCE, scores={}), "neither scored nor"),
    "a reference with scores that are withheld": (replace(REFERENCE, withheld="test"), "neither scored nor"),
    "a reference that withholds what it has not": (replace(REFERENCE, scores={}, withheld="val"), "field 'withheld'"),
    "a pooled reference": (replace(REFERENCE, kind="pooled"), "field 'kind'"),
    "scores on the union": (replace(REFERENCE, scores={"union": scores(9, 0, 0, 9)}), "a record"),
}


@pytest.mark.parametrize(("reply", "rule"), _WRONG.values(), ids=_WRONG)
def test_what_no_answer_may_hold_is_refused(reply: Reply, rule: str) -> None:
    with pytest.raises(EgressRefused, match=rule) as caught:
        _let_out(reply)
    assert caught.value.code is Refusal.EGRESS
    assert "4711" not in caught.value.reason


def _with(vectors: dict[str, np.ndarray], manifest_hash: str = MANIFEST.hash) -> EncodedState:
    return EncodedState(manifest_hash, vectors)


_VECTORS = dict(TRAINED.encode().vectors)
_STATES: dict[str, tuple[EncodedState, str]] = {
    "nan": (_with({**_VECTORS, "head": np.full(6, np.nan, np.float32)}), "not finite"),
    "inf": (_with({**_VECTORS, "head": np.full(6, np.inf, np.float32)}), "not finite"),
    "above the contract's norm": (_with({**_VECTORS, "head": np.full(6, 99.0, np.float32)}), "contract: norm"),
    "longer": (_with({**_VECTORS, "head": np.zeros(7, np.float32)}), "array 'head'"),
    "float64": (_with({**_VECTORS, "head": np.zeros(6)}), "array 'head'"),
    "of two dimensions": (_with({**_VECTORS, "head": np.zeros((2, 3), np.float32)}), "array 'head'"),
    "one part more": (_with({**_VECTORS, "images": np.zeros(6, np.float32)}), "other arrays"),
    "one part less": (_with({"head": _VECTORS["head"]}), "other arrays"),
    "of another method": (_with(_VECTORS, "0" * 64), "manifest_hash_of_state"),
}


@pytest.mark.parametrize(("encoded", "rule"), _STATES.values(), ids=_STATES)
def test_a_state_off_the_contract_is_refused(encoded: EncodedState, rule: str) -> None:
    with pytest.raises(EgressRefused, match=rule):
        _let_out(replace(VISIT, state=encoded))


def test_a_site_joins_with_the_common_start_and_no_other_state() -> None:
    with pytest.raises(EgressRefused, match="initial state"):
        _let_out(replace(JOIN, state=TRAINED.encode()))


_LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "norm": ({"most_norm": 0.9 * TRAINED.norm()}, "most-norm"),
    "update": ({"most_update_norm": 0.1}, "most-update-norm"),
    "bytes": ({"most_bytes": 500}, "most-bytes"),
    "bytes of a run that is not named": ({"most_bytes_of_run": 10**9}, "which run"),
    "loss": ({"training_loss": False}, "keeps back"),
    "metrics": ({"metrics": "none"}, "keeps back"),
    "counts": ({"counts": False}, "keeps back"),
    "small cells": ({"smallest_cell": 6}, "keeps back"),
    "few samples": ({"smallest_count": 81}, "smallest-count: 81"),
}


@pytest.mark.parametrize(("values", "rule"), _LIMITS.values(), ids=_LIMITS)
def test_the_policy_holds_at_the_gate_too(values: dict[str, Any], rule: str) -> None:
    with pytest.raises(EgressRefused, match=rule):
        _let_out(VISIT, _changed(**values))


def test_a_limit_on_updates_is_of_what_changed() -> None:
    near = PeftState.from_tensors(MANIFEST, {name: values + 0.01 for name, values in START.tensors().items()})
    _let_out(replace(VISIT, state=near.encode()), _changed(most_update_norm=0.041))
    with pytest.raises(EgressRefused, match="most-update-norm: 0.039"):
        _let_out(replace(VISIT, state=near.encode()), _changed(most_update_norm=0.039))
    known = terms(VISIT, _changed(most_update_norm=0.1))
    with pytest.raises(EgressRefused, match="what this one started from"):
        gate(VISIT, known.section).let_out(VISIT, known.contract, None)


def test_a_rotation_sends_a_part_of_the_start() -> None:
    part = MANIFEST.only({"blocks.0.lora.a", "head.weight"})
    reply = replace(VISIT, state=TRAINED.only(part).encode())
    section = _changed(most_update_norm=50.0)
    gate(reply, section).let_out(reply, CONTRACT.over(part), START)
    with pytest.raises(EgressRefused, match="manifest_hash_of_state"):
        _let_out(reply, section)


def test_references_stay_where_the_policy_says_so() -> None:
    with pytest.raises(EgressRefused, match="reference"):
        _let_out(REFERENCE, _changed(references=False))


def test_tensors_need_a_contract() -> None:
    with pytest.raises(EgressRefused, match="manifest_hash_of_state"):
        gate(VISIT).let_out(VISIT, None, START)


def test_bytes_of_a_run_add_up_over_restarts(tmp_path: Path) -> None:
    size = len(wire.pack(wire.encode(VISIT)))
    section = _changed(most_bytes_of_run=2 * size)
    for _ in range(2):
        sent = SentBytes(tmp_path / "sent.json")
        EgressGate(section, SITE, TASK, FINGERPRINT, sent).let_out(VISIT, CONTRACT, START, "run")
    again = EgressGate(section, SITE, TASK, FINGERPRINT, SentBytes(tmp_path / "sent.json"))
    with pytest.raises(EgressRefused, match="most-bytes-of-run"):
        again.let_out(VISIT, CONTRACT, START, "run")
    again.let_out(VISIT, CONTRACT, START, "another")
    dry = _changed(section, dry_run=True)
    EgressGate(dry, SITE, TASK, FINGERPRINT, SentBytes(tmp_path / "sent.json")).let_out(VISIT, CONTRACT, START, "run")


def test_a_gate_that_fails_lets_nothing_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("patient 4711")

    monkeypatch.setattr(gate_module, "check_records", broken)
    with caplog.at_level(logging.ERROR), pytest.raises(EgressRefused, match="check itself failed") as caught:
        _let_out(VISIT)
    assert "4711" not in caught.value.reason
    assert "4711" in caplog.text


def test_an_answer_that_is_encoded_as_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encode, other = wire.encode, replace(VISIT, steps=11)
    monkeypatch.setattr(wire, "encode", lambda reply: encode(other if reply is VISIT else reply))
    with pytest.raises(EgressRefused, match="read back is not what was written"):
        _let_out(VISIT)


def test_a_field_that_no_answer_has_is_refused_by_its_rule() -> None:
    content = wire.encode(VISIT)
    content.config_records["fields"]["note"] = "patient 4711"
    with pytest.raises(EgressRefused, match="a field that no such answer has"):
        gate_module.inspect(wire.pack(content), type(VISIT), terms(VISIT))


def test_what_encoding_loses_is_refused() -> None:
    """A metric that is no float would be left out on the way: the answer that arrives would be another one."""
    odd = replace(scores(10, 5, 0, 15), metrics={"accuracy": 1})
    with pytest.raises(EgressRefused):
        _let_out(replace(VISIT, before={"val": odd}))
