"""Whatever is done to the bytes of an answer, beyond the values that it may have, they do not leave."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from clients.egress.gate import inspect
from clients.egress.refused import EgressRefused
from fedmedpeft.exchange import flower as wire
from tests.clients.egress.answers import REPLIES, TRAINED, terms

Mutation = Callable[[RecordDict, st.DataObject], None]
_KINDS = st.sampled_from(sorted(REPLIES))
_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)
_FIELD = st.one_of(_WORDS, st.binary(max_size=20), st.integers(0, 2**40), st.floats(), st.booleans(), st.lists(_WORDS))


def _extra_record(content: RecordDict, data: st.DataObject) -> None:
    name = data.draw(_WORDS.filter(lambda word: word not in content))
    kinds: list[ArrayRecord | ConfigRecord | MetricRecord] = [
        ConfigRecord({"note": "patient 4711"}),
        MetricRecord({"age": 62}),
        ArrayRecord({"image": Array(np.zeros(4, np.uint8))}),
        ConfigRecord(),
    ]
    content[name] = data.draw(st.sampled_from(kinds))


def _known_name_of_another_answer(content: RecordDict, data: st.DataObject) -> None:
    names = ["counts.counts", "counts.samples", "scores.test", "scores.union", "scores.own-val"]
    content[data.draw(st.sampled_from([name for name in names if name not in content]))] = MetricRecord({"age": 62})


def _record_gone(content: RecordDict, data: st.DataObject) -> None:
    del content["fields"]


def _record_renamed(content: RecordDict, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(content)))
    record = content.pop(name)
    content[data.draw(_WORDS.filter(lambda word: word != name))] = record


def _record_of_another_type(content: RecordDict, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(content)))
    kind = MetricRecord if isinstance(content[name], ConfigRecord) else ConfigRecord
    del content[name]
    content[name] = kind({"note": 4711})


def _extra_field(content: RecordDict, data: st.DataObject) -> None:
    fields = content.config_records["fields"]
    fields[data.draw(_WORDS.filter(lambda word: word not in fields))] = data.draw(_FIELD)


def _field_gone(content: RecordDict, data: st.DataObject) -> None:
    fields = content.config_records["fields"]
    optional = {"epsilon", "delta", "within", "shares_images"}
    del fields[data.draw(st.sampled_from(sorted(set(fields) - optional)))]


def _words_in_a_field(content: RecordDict, data: st.DataObject) -> None:
    fields = content.config_records["fields"]
    texts = sorted(key for key, value in fields.items() if isinstance(value, str))
    name = data.draw(st.sampled_from(texts))
    allowed = {fields[name], "", "record", "image", "patient", "val", "test", "loss"}
    fields[name] = data.draw(_WORDS.filter(lambda word: word not in allowed))


def _field_of_another_type(content: RecordDict, data: st.DataObject) -> None:
    fields = content.config_records["fields"]
    name = data.draw(st.sampled_from(sorted(fields)))
    fields[name] = data.draw(_FIELD.filter(lambda value: type(value) is not type(fields[name])))


def _not_finite(content: RecordDict, data: st.DataObject) -> None:
    name, key = data.draw(st.sampled_from(_numbers(content)))
    bad = [float("inf"), float("-inf")] + ([float("nan")] if name == "fields" and key != "loss" else [])
    record = content[name]
    assert isinstance(record, ConfigRecord | MetricRecord)
    record[key] = data.draw(st.sampled_from(bad))


def _extra_metric(content: RecordDict, data: st.DataObject) -> None:
    record = _metrics(content, data)
    if any(key == "counts" for key in record):
        name = data.draw(_WORDS.map(lambda word: f"metric.{word}").filter(lambda word: word not in record))
        record[name] = data.draw(st.floats(0, 1))
    else:
        record[f"{data.draw(_WORDS)}\n"] = data.draw(st.integers(10, 99))


def _a_list(content: RecordDict, data: st.DataObject) -> None:
    record = _metrics(content, data)
    key = data.draw(st.sampled_from(sorted(record)))
    counts = record[key]
    record[key] = [*counts, 0] if isinstance(counts, list) else [0.5] * data.draw(st.integers(0, 40))


def _counts_of_samples(content: RecordDict, data: st.DataObject) -> None:
    for record in content.metric_records.values():
        if "counts" in record:
            record["counts"] = data.draw(st.lists(st.integers(0, 9), max_size=60).filter(lambda c: sum(c) != 30))
            return
    content["note"] = MetricRecord({"per-sample": [1, 0, 1]})


def _extra_array(content: RecordDict, data: st.DataObject) -> None:
    record = content.get("state")
    arrays = record if isinstance(record, ArrayRecord) else ArrayRecord()
    arrays[data.draw(_WORDS.filter(lambda word: word not in arrays))] = Array(np.zeros(3, np.float32))
    content["state"] = arrays


def _array_of_another_kind(content: RecordDict, data: st.DataObject) -> None:
    fresh = {str(part): vector for part, vector in TRAINED.vectors.items()}
    part = data.draw(st.sampled_from(sorted(fresh)))
    vector = fresh[part]
    others = [vector.astype(np.float64), vector.astype(np.float16), vector[:-1], vector[None], vector.view(np.int32)]
    others += [np.append(vector, 0).astype(np.float32), np.where(vector > 0, np.nan, vector).astype(np.float32)]
    fresh[part] = data.draw(st.sampled_from(others))
    content["state"] = ArrayRecord({name: Array(np.ascontiguousarray(values)) for name, values in fresh.items()})
    content.config_records["fields"]["manifest_hash_of_state"] = TRAINED.manifest.hash


def _bytes_in_an_array(content: RecordDict, data: st.DataObject) -> None:
    """Behind the numbers, and in the spaces of numpy's header, there is room that a reader never looks at."""
    arrays = {}
    for part, vector in TRAINED.vectors.items():
        made = Array(vector)
        hidden = data.draw(st.binary(min_size=1, max_size=9))
        spoilt = made.data + hidden if data.draw(st.booleans()) else made.data.replace(b"    ", b"  \t ", 1)
        arrays[str(part)] = Array(made.dtype, made.shape, made.stype, spoilt)
    content["state"] = ArrayRecord(arrays)
    content.config_records["fields"]["manifest_hash_of_state"] = TRAINED.manifest.hash


def _array_that_says_otherwise(content: RecordDict, data: st.DataObject) -> None:
    arrays = {}
    for part, vector in TRAINED.vectors.items():
        made = Array(vector)
        odd = data.draw(
            st.sampled_from(
                [
                    ("float64", made.shape, made.stype),
                    (made.dtype, (1, *made.shape), made.stype),
                    ("float32", (6,), "z"),
                ]
            )
        )
        arrays[str(part)] = Array(odd[0], odd[1], odd[2], made.data)
    content["state"] = ArrayRecord(arrays)


def _metrics(content: RecordDict, data: st.DataObject) -> MetricRecord:
    found = sorted(content.metric_records)
    return content.metric_records[data.draw(st.sampled_from(found))]


def _numbers(content: RecordDict) -> list[tuple[str, str]]:
    floats = [(n, k) for n, record in content.items() for k, v in record.items() if isinstance(v, float)]
    return floats or [("fields", "site")]


_MUTATIONS: tuple[Mutation, ...] = (
    _extra_record,
    _known_name_of_another_answer,
    _record_gone,
    _record_renamed,
    _record_of_another_type,
    _extra_field,
    _field_gone,
    _words_in_a_field,
    _field_of_another_type,
    _not_finite,
    _extra_metric,
    _a_list,
    _counts_of_samples,
    _extra_array,
    _array_of_another_kind,
    _bytes_in_an_array,
    _array_that_says_otherwise,
)


def _record(kind: str) -> RecordDict:
    return wire.unpack(wire.pack(wire.encode(REPLIES[kind])))


@pytest.mark.parametrize("mutation", _MUTATIONS, ids=lambda mutation: mutation.__name__.strip("_"))
@given(kind=_KINDS, data=st.data())
def test_a_changed_answer_never_leaves(mutation: Mutation, kind: str, data: st.DataObject) -> None:
    content = _record(kind)
    mutation(content, data)
    packed = wire.pack(content)
    with pytest.raises(EgressRefused):
        inspect(packed, type(REPLIES[kind]), terms(REPLIES[kind]))


@given(kind=_KINDS, more=st.binary(min_size=1, max_size=30), front=st.booleans())
def test_bytes_around_an_answer_never_leave(kind: str, more: bytes, front: bool) -> None:
    packed = wire.pack(wire.encode(REPLIES[kind]))
    spoilt = more + packed if front else packed + more
    with pytest.raises(EgressRefused):
        inspect(spoilt, type(REPLIES[kind]), terms(REPLIES[kind]))


@given(kind=_KINDS, other=_KINDS)
def test_an_answer_of_another_kind_never_leaves(kind: str, other: str) -> None:
    if type(REPLIES[kind]) is type(REPLIES[other]):
        return
    with pytest.raises(EgressRefused):
        inspect(wire.pack(_record(kind)), type(REPLIES[other]), terms(REPLIES[other]))


def test_a_record_that_comes_twice_never_leaves() -> None:
    """Protobuf lets a later one hide an earlier one from whoever reads names."""
    hidden = wire.pack(RecordDict({"fields": ConfigRecord({"note": "patient 4711"})}))
    with pytest.raises(EgressRefused):
        inspect(hidden + wire.pack(_record("visit")), type(REPLIES["visit"]), terms(REPLIES["visit"]))
