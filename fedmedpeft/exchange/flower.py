"""Messages as Flower's records and back. The only module of the library that imports Flower.

A PEFT state is one flat array per part: naming every tensor costs about 230 bytes and, in deployment, several object
calls each. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from fedmedpeft.exchange.contract import ContractError
from fedmedpeft.exchange.messages import (
    AnswersReply,
    AnswersRequest,
    JoinReply,
    JoinRequest,
    ReferenceReply,
    ReferenceRequest,
    Scores,
    VisitReply,
    VisitRequest,
)
from fedmedpeft.exchange.peft_state import EncodedState

ANSWERS, JOIN, VISIT, REFERENCE = "query.answers", "query.join", "train.visit", "train.reference"
"""Flower's message types; the part after the dot names the ClientApp's function."""

_FIELDS, _STATE, _SCORES, _COUNTS = "fields", "state", "scores.", "counts."
_NUMPY = "numpy.ndarray"
_MOST_BESIDE = 20_000_000
"""Bytes of a message that are not its arrays': names, counts, answers that sites agree on. A record of no content is
ten bytes on the wire and forty times as many in memory, so that a message of nothing else would take all there is."""

AnyMessage = (
    AnswersRequest
    | AnswersReply
    | JoinRequest
    | JoinReply
    | VisitRequest
    | VisitReply
    | ReferenceRequest
    | ReferenceReply
)


def pack(content: RecordDict) -> bytes:
    """A content as bytes, between the processes of a site; the same content gives the same bytes.

    Flower's own protobuf messages: nothing is pickled.
    """
    return bytes(recorddict_to_proto(content).SerializeToString(deterministic=True))


def unpack(packed: bytes) -> RecordDict:
    """What :func:`pack` made. Raises ContractError for bytes that it could not have made."""
    try:
        content = ProtoRecordDict.FromString(packed)
        if len(packed) - _array_bytes(content) > _MOST_BESIDE:
            raise ContractError(f"a message with more than {_MOST_BESIDE:,} bytes beside its arrays")
        return recorddict_from_proto(content)
    except ContractError:
        raise
    except Exception as error:
        # Whoever sends these bytes may choose them: there are many ways of failing to read protobuf and records.
        raise ContractError(f"the message cannot be read ({type(error).__name__})") from None


def _array_bytes(content: ProtoRecordDict) -> int:
    return sum(len(entry.value.data) for item in content.items for entry in item.array_record.items)


def seal(content: RecordDict) -> str:
    """SHA-256 (hex) of a content as bytes: equal for equal contents, whatever they were carried by."""
    return hashlib.sha256(pack(content)).hexdigest()


def wire_bytes(content: RecordDict) -> int:
    """Bytes that this content costs on the wire: Flower's own encoding of every object in it."""
    return sum(len(part.deflate()) for part in get_all_nested_objects(content).values())


def state_record(state: EncodedState) -> ArrayRecord:
    """The arrays of a state, by part."""
    return ArrayRecord({part: Array(np.ascontiguousarray(vector)) for part, vector in state.vectors.items()})


def state_of(arrays: ArrayRecord, manifest_hash: str) -> EncodedState:
    """Read arrays that arrived. Raises ContractError where one is not a plain numpy array."""
    vectors = {}
    for part, array in arrays.items():
        if array.stype != _NUMPY:
            raise ContractError(f"part '{part}' is encoded as '{array.stype}', expected '{_NUMPY}'")
        try:
            vector = array.numpy()
        except Exception:
            # Its header is read as an expression of Python's, which fails in as many ways as there are.
            raise ContractError(f"part '{part}' cannot be decoded") from None
        # numpy reads an archive of arrays too, and opens it as something that is none.
        if not isinstance(vector, np.ndarray):
            raise ContractError(f"part '{part}' is no array")
        vectors[part] = vector
    return EncodedState(manifest_hash, vectors)


def encode(message: AnyMessage) -> RecordDict:
    """Any message of :mod:`fedmedpeft.exchange.messages` as a RecordDict."""
    fields: dict[str, Any] = {}
    content = RecordDict()
    for name, value in vars(message).items():
        if isinstance(value, EncodedState):
            fields["manifest_hash_of_state"] = value.manifest_hash
            content[_STATE] = state_record(value)
        elif isinstance(value, dict):
            content.update(_encode_mapping(name, value))
        elif value is not None:
            fields[name] = value
    content[_FIELDS] = ConfigRecord(fields)
    return content


def decode_answers_request(content: RecordDict) -> AnswersRequest:
    return AnswersRequest(**_fields(content, AnswersRequest))


def decode_answers_reply(content: RecordDict) -> AnswersReply:
    return AnswersReply(**_fields(content, AnswersReply), counts=_counts(content, "counts"))


def decode_join_request(content: RecordDict) -> JoinRequest:
    return JoinRequest(**_fields(content, JoinRequest))


def decode_join_reply(content: RecordDict) -> JoinReply:
    return JoinReply(
        **_fields(content, JoinReply),
        samples=_counts(content, "samples"),
        skipped=_counts(content, "skipped"),
        state=_state(content),
    )


def decode_visit_request(content: RecordDict) -> VisitRequest:
    state = _state(content)
    if state is None:
        raise ContractError("the request carries no state")
    return VisitRequest(**_fields(content, VisitRequest), state=state)


def decode_visit_reply(content: RecordDict) -> VisitReply:
    return VisitReply(**_fields(content, VisitReply), before=_scores(content), state=_state(content))


def decode_reference_request(content: RecordDict) -> ReferenceRequest:
    return ReferenceRequest(**_fields(content, ReferenceRequest))


def decode_reference_reply(content: RecordDict) -> ReferenceReply:
    return ReferenceReply(**_fields(content, ReferenceReply), scores=_scores(content))


def _encode_mapping(name: str, value: Mapping[str, Any]) -> dict[str, MetricRecord]:
    """Counts become one record, scores one record per split."""
    if all(isinstance(item, int) for item in value.values()):
        return {f"{_COUNTS}{name}": MetricRecord(dict(value))} if value else {}
    return {
        f"{_SCORES}{split}": MetricRecord(
            {
                "samples": s.samples,
                "loss": s.loss,
                "counts": s.counts,
                **{f"metric.{k}": v for k, v in s.metrics.items()},
            }
        )
        for split, s in value.items()
    }


def _fields(content: RecordDict, kind: type) -> dict[str, Any]:
    """The scalar fields of ``kind``, each of the type that it is declared with; one that may be None may be missing."""
    record = content.config_records.get(_FIELDS)
    if record is None:
        raise ContractError("the message has no fields")
    scalars = {"str": str, "int": int, "float": float, "bool": bool, "Reference": str}
    scalars |= {"str | None": str, "bool | None": bool, "float | None": float}
    declared = {k: v for k, v in kind.__annotations__.items() if v in scalars}
    fields = {}
    for name, annotation in declared.items():
        if name not in record and annotation.endswith("| None"):
            continue
        type_ = scalars[annotation]
        if type(record.get(name)) is not type_:
            raise ContractError(f"field '{name}' is missing or not of type {type_.__name__}")
        fields[name] = record[name]
    return fields


def _counts(content: RecordDict, name: str) -> dict[str, int]:
    record = content.metric_records.get(f"{_COUNTS}{name}")
    return {key: int(value) for key, value in record.items() if isinstance(value, int)} if record else {}


def _scores(content: RecordDict) -> dict[str, Scores]:
    scores = {}
    for key, record in content.metric_records.items():
        if key.startswith(_SCORES):
            scores[key.removeprefix(_SCORES)] = _one_score(record)
    return scores


def _one_score(record: MetricRecord) -> Scores:
    metrics = {k.removeprefix("metric."): v for k, v in record.items() if k.startswith("metric.")}
    samples, loss, counts = record.get("samples"), record.get("loss"), record.get("counts")
    if not (isinstance(samples, int) and isinstance(loss, float) and isinstance(counts, list)):
        raise ContractError("scores without samples, loss or counts")
    return Scores(
        samples, loss, {k: float(v) for k, v in metrics.items() if isinstance(v, float)}, [int(c) for c in counts]
    )


def _state(content: RecordDict) -> EncodedState | None:
    arrays = content.array_records.get(_STATE)
    if arrays is None:
        return None
    fields = content.config_records.get(_FIELDS)
    manifest_hash = fields.get("manifest_hash_of_state") if fields else None
    return state_of(arrays, manifest_hash if isinstance(manifest_hash, str) else "")
