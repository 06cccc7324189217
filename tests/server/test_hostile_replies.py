"""Whatever bytes a site sends for a round: it gets a verdict, and the run goes on."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.exchange import Contract, EncodedState, PeftState, VisitReply
from fedmedpeft.exchange import flower as wire
from fedmedpeft.tasks import Classification
from server.courier import Answer
from server.federation import run_federation
from server.quarantine import Expected, Quarantined, Vetted, vet_visit
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script

SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(), st.text(max_size=20), st.binary(max_size=20)
)
LISTS = st.one_of(st.lists(st.integers(-9, 2**62), max_size=6), st.lists(st.floats(), max_size=6))
FIELDS = st.sampled_from([*VisitReply.__annotations__, "manifest_hash_of_state", "x"])
RECORDS = st.sampled_from(["fields", "state", "scores.val", "scores.test", "scores.own-val", "counts.samples", "?"])


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """A numpy array of some kind, or bytes that say they are one."""
    if draw(st.booleans()):
        dtype = draw(st.sampled_from(["float32", "float64", "int8", "complex64", "S3"]))
        return Array(np.zeros(draw(st.integers(0, 30)), dtype=dtype))
    stype = draw(st.sampled_from(["numpy.ndarray", "pickle", ""]))
    return Array("float32", (draw(st.integers(-1, 2**40)),), stype, draw(st.binary(max_size=60)))


@st.composite
def hostile(draw: st.DrawFn) -> RecordDict:
    """A good answer with one to four things about it changed."""
    content = wire.encode(_good())
    for _ in range(draw(st.integers(1, 4))):
        kind, record = draw(st.sampled_from(["drop", "field", "metric", "array", "flip"])), draw(RECORDS)
        if kind == "drop":
            content.pop(record, None)
        elif kind == "field":
            fields = dict(content.config_records.get("fields", {}))
            content["fields"] = ConfigRecord(fields | {draw(FIELDS): draw(SCALARS)})
        elif kind == "metric":
            key = draw(st.sampled_from(["samples", "loss", "counts", "metric.auroc", "y"]))
            value = draw(st.one_of(st.integers(-5, 2**62), st.floats(), LISTS))
            content[record] = MetricRecord({**dict(content.metric_records.get(record) or {}), key: value})
        elif kind == "array":
            parts = draw(st.lists(st.sampled_from(["method", "head", "other"]), unique=True))
            content[record] = ArrayRecord({part: draw(arrays()) for part in parts})
        elif content.array_records.get("state"):
            content["state"] = _flipped(content.array_records["state"], draw)
    return content


def _flipped(record: ArrayRecord, draw: st.DrawFn) -> ArrayRecord:
    """One byte of one part changed, header or values."""
    flipped = dict(record)
    name = draw(st.sampled_from(sorted(flipped)))
    array = flipped[name]
    data = bytearray(array.data or b"\0")
    data[draw(st.integers(0, len(data) - 1))] ^= draw(st.integers(1, 255))
    flipped[name] = Array(array.dtype, array.shape, array.stype, bytes(data))
    return ArrayRecord(flipped)


_FOLDER = tempfile.TemporaryDirectory()
_CONFIG = script.run_config(Path(_FOLDER.name))
START = script.state_of(script.manifest_of(_CONFIG))
EXPECTED = Expected(
    "site-0", {"train": 10, "val": 20, "test": 20}, 1, False, Classification(script.CLASSES), Contract(START.manifest),
    START,
)  # fmt: skip


def _good() -> VisitReply:
    moved = {part: vector + np.float32(1.0) for part, vector in START.encode().vectors.items()}
    state = EncodedState(START.manifest.hash, moved)
    return VisitReply("site-0", 1, {"val": script.scores(6, 4)}, 10, 0.5, 10, 0.1, state)


def test_the_good_answer_is_good() -> None:
    assert vet_visit(Answer(wire.encode(_good())), EXPECTED).state is not None


def _judged(content: RecordDict, last: bool) -> Vetted | str:
    """The answer that counts, or why it does not."""
    try:
        return vet_visit(Answer(content), replace(EXPECTED, last=last))
    except Quarantined as reason:
        return str(reason)


@settings(max_examples=300, deadline=None)
@given(hostile(), st.booleans())
def test_a_changed_answer_gets_a_verdict_and_never_an_error(content: RecordDict, last: bool) -> None:
    vetted = _judged(content, last)
    if isinstance(vetted, str):
        assert 0 < len(vetted) <= 200
        assert vetted.isprintable()
        return
    assert (vetted.state is None) == last
    assert all(score.samples in (0, 20) and sum(score.counts) == score.samples for score in vetted.scores.values())
    if vetted.state:
        assert all(np.isfinite(vector).all() for vector in vetted.state.vectors.values())
        assert 0 < vetted.length < math.inf
        assert vetted.reply.samples == 10


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hostile(), hostile())
def test_a_run_outlives_any_answer_to_training_and_to_the_last_visit(
    tmp_path_factory: pytest.TempPathFactory, trained: RecordDict, tested: RecordDict
) -> None:
    def answers(content: RecordDict) -> script.Twist:
        return lambda message, reply: Message(content, reply_to=message)

    config = script.run_config(tmp_path_factory.mktemp("run"), rounds=2)
    sites = script.federation_of(config)
    sites[11].twists |= {1: answers(trained), 3: answers(tested)}
    directory = run_federation(config, LocalGrid(sites), [].append)
    final = read_adapter(directory.path / "adapter").state
    assert _finite(final)
    assert all(visit.round in (1, 2, 3) for visit in sites[12].visits)
    assert len(sites[12].visits) == 3


def test_half_of_an_account_of_privacy_does_not_end_the_run(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=2)
    sites = script.federation_of(config)
    private = script.changed(private="patient", loss=math.nan)
    half = script.changed(private="patient", loss=math.nan, epsilon=3.0)
    sites[11].twists |= {"join": script.changed(private="patient"), 1: private, 2: private, 3: half}
    directory = run_federation(config, LocalGrid(sites), [].append)
    assert (directory.path / "summary.json").is_file()
    assert "one of epsilon and delta" in (directory.path / "sites.csv").read_text(encoding="utf-8")


def _finite(state: PeftState) -> bool:
    return all(bool(np.isfinite(vector).all()) for vector in state.vectors.values())


@pytest.mark.parametrize("name", ["truncated", "empty", "text"])
def test_records_of_no_protocol_at_all(name: str) -> None:
    contents: dict[str, Any] = {
        "truncated": RecordDict({"state": ArrayRecord({"head": Array("float32", (9,), "numpy.ndarray", b"\x93NUM")})}),
        "empty": RecordDict({}),
        "text": RecordDict({"fields": ConfigRecord({"site": "\x1b[2J" * 999})}),
    }
    with pytest.raises(Quarantined) as caught:
        vet_visit(Answer(contents[name]), EXPECTED)
    assert str(caught.value).isprintable()
