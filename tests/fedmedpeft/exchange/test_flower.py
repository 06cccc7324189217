from __future__ import annotations

import dataclasses
import io
import math
import struct

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.exchange import (
    AnswersReply,
    AnswersRequest,
    ContractError,
    EncodedState,
    JoinReply,
    JoinRequest,
    ReferenceReply,
    ReferenceRequest,
    Scores,
    VisitReply,
    VisitRequest,
)
from fedmedpeft.exchange import flower as wire

_STATE = EncodedState("abc", {"method": np.arange(5, dtype=np.float32), "head": np.ones(3, np.float32)})
_SCORES = Scores(7, 0.25, {"accuracy": 0.5, "auroc": math.nan}, [3, 1, 1, 2])
_MESSAGES = [
    (AnswersRequest("run"), wire.decode_answers_request),
    (AnswersReply("a", {"left lung": 3, "yes": 12}), wire.decode_answers_reply),
    (AnswersReply("a", {}), wire.decode_answers_reply),
    (JoinRequest("run", False, "no\nyes"), wire.decode_join_request),
    (JoinRequest("run", True), wire.decode_join_request),
    (
        JoinReply("a", "x\ny", False, "f", "m", "s", {"train": 3, "val": 0}, {"truncated": 1}, _STATE),
        wire.decode_join_reply,
    ),
    (JoinReply("a", "x\ny", True, "f", "m", "s", {"train": 3}), wire.decode_join_reply),
    (JoinReply("a", "", True, "f", "m", "s", {"train": 3}, shares_images=True), wire.decode_join_reply),
    (VisitRequest("run", 2, False, "f", 0.1, _STATE), wire.decode_visit_request),
    (VisitRequest("run", 2, False, "f", 0.1, _STATE, "b.1", "b.0,b.2", "h"), wire.decode_visit_request),
    (VisitRequest("run", 2, False, "f", 0.1, EncodedState("abc", {}), "b.1", "", "h"), wire.decode_visit_request),
    (VisitReply("a", 2, {"val": _SCORES}, 10, 0.5, 4, 1.5, _STATE), wire.decode_visit_reply),
    (VisitReply("a", 3, {"val": _SCORES, "test": _SCORES}, 10, math.nan, 0, 1.5, None), wire.decode_visit_reply),
    (VisitRequest("run", 2, False, "f", 0.1, _STATE, classes="no\nyes"), wire.decode_visit_request),
    (VisitRequest("run", 2, False, "f", 0.1, _STATE, clip=0.5), wire.decode_visit_request),
    (JoinReply("a", "", True, "f", "m", "s", {"train": 3}, private="patient"), wire.decode_join_reply),
    (
        VisitReply("a", 2, {}, 10, math.nan, 4, 1.5, _STATE, "patient", epsilon=0.5, delta=1e-4, within=False),
        wire.decode_visit_reply,
    ),
    (ReferenceRequest("local-only", "run"), wire.decode_reference_request),
    (ReferenceRequest("pooled"), wire.decode_reference_request),
    (ReferenceReply("a", "pooled", {"test/a": _SCORES, "union": _SCORES}, 2.0), wire.decode_reference_reply),
]


_MAY_BE_NONE = {
    JoinRequest: ("classes",),
    JoinReply: ("shares_images",),
    VisitRequest: ("classes",),
    VisitReply: ("epsilon", "delta", "within"),
    ReferenceRequest: ("run",),
}


def _plain(message: object) -> object:
    """Comparable: arrays as lists, nan as text."""
    return repr(dataclasses.asdict(message))  # type: ignore[call-overload]


@pytest.mark.parametrize(("message", "decode"), _MESSAGES, ids=lambda case: type(case).__name__)
def test_every_message_survives(message: object, decode: object) -> None:
    decoded = decode(wire.encode(message))  # type: ignore[operator, arg-type]
    assert type(decoded) is type(message)
    assert _plain(decoded) == _plain(message)


@pytest.mark.parametrize(("message", "decode"), _MESSAGES, ids=lambda case: type(case).__name__)
def test_a_field_that_is_missing_or_of_another_type_is_refused(message: object, decode: object) -> None:
    fields = wire.encode(message).config_records["fields"]  # type: ignore[arg-type]
    for name in fields:
        if name == "manifest_hash_of_state":
            continue
        for value in (None, b"\x00"):
            content = wire.encode(message)  # type: ignore[arg-type]
            if value is None and name in _MAY_BE_NONE.get(type(message), ()):
                continue
            changed = {**fields, name: value}
            content["fields"] = ConfigRecord({k: v for k, v in changed.items() if v is not None})
            with pytest.raises(ContractError, match=name):
                decode(content)  # type: ignore[operator]


@given(st.binary(max_size=200), st.sampled_from(["numpy.ndarray", "pickle"]))
def test_garbage_arrays_are_refused_and_never_unpickled(data: bytes, stype: str) -> None:
    with pytest.raises(ContractError):
        wire.state_of(ArrayRecord({"head": Array("float32", (3,), stype, data)}), "abc")


def test_a_pickled_object_array_is_refused() -> None:
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ContractError):
        wire.state_of(ArrayRecord({"head": Array("object", (1,), "numpy.ndarray", buffer.getvalue())}), "abc")


def _npy(header: str) -> bytes:
    """A file of numpy's with a header of one's own."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _archive() -> bytes:
    """What numpy reads as an archive of arrays."""
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros(10))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000000,), }"),
        _npy("-" * 9000 + "1"),
        _npy("(" * 9000),
        _npy("1" + "+1" * 4900),
        _archive(),
    ],
    ids=["too-large", "signs", "parentheses", "sum", "archive"],
)
def test_bytes_that_are_made_to_be_hard_to_read_break_the_contract(data: bytes) -> None:
    record = ArrayRecord({"head": Array("float32", (1,), "numpy.ndarray", data)})
    with pytest.raises(ContractError, match="'head'"):
        wire.state_of(record, "")


def test_a_message_is_arrays_and_little_else() -> None:
    """Records without content are forty times as large in memory as on the wire."""
    large = np.zeros(6_000_000, np.float32)
    content = RecordDict({"state": wire.state_record(EncodedState("", {"head": large}))})
    assert wire.unpack(wire.pack(content)).array_records["state"]["head"].numpy().nbytes == large.nbytes
    content["fields"] = ConfigRecord({"classes": "a" * 20_000_000})
    with pytest.raises(ContractError, match="beside its arrays"):
        wire.unpack(wire.pack(content))


def test_an_empty_message_is_refused() -> None:
    for _, decode in _MESSAGES:
        with pytest.raises(ContractError):
            decode(RecordDict())  # type: ignore[operator]


def test_what_may_be_none_costs_nothing_where_it_is() -> None:
    assert "classes" not in wire.encode(JoinRequest("run", True)).config_records["fields"]
    assert "run" not in wire.encode(ReferenceRequest("pooled")).config_records["fields"]


def test_bytes_grow_by_exactly_the_payload() -> None:
    def size(numbers: int) -> int:
        state = EncodedState("abc", {"method": np.zeros(numbers, np.float32)})
        return wire.wire_bytes(wire.encode(VisitRequest("run", 1, False, "f", 0.0, state)))

    assert size(3000) - size(1000) == pytest.approx(4 * 2000, abs=8)
    assert size(1000) - 4 * 1000 < 1000  # framing
