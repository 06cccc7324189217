"""The records that an answer may hold: fields, counts, scores and one set of arrays, and nothing beside."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from clients.egress.field_rules import check_fields
from clients.egress.refused import EgressRefused
from clients.egress.terms import Terms
from clients.egress.withholding import counts_length
from fedmedpeft.data.decode import PUBLIC_REASONS
from fedmedpeft.exchange import AnswersReply, JoinReply, ReferenceReply, VisitReply
from fedmedpeft.exchange.manifest import PARTS
from fedmedpeft.tasks import Task
from fedmedpeft.tasks.answers import MOST, usable

_FIELDS, _STATE = "fields", "state"
_ANSWERS, _SAMPLES, _SKIPPED = "counts.counts", "counts.samples", "counts.skipped"
_SCORES = re.compile(r"scores\..*")
_SCORE_NAMES = ("scores.val", "scores.test", "scores.own-val", "scores.own-test")
_METRIC = "metric."
_SPLITS = {"train", "val", "test"}

_RECORDS: Mapping[type, frozenset[str]] = {
    AnswersReply: frozenset({_FIELDS, _ANSWERS}),
    JoinReply: frozenset({_FIELDS, _SAMPLES, _SKIPPED, _STATE}),
    VisitReply: frozenset({_FIELDS, _STATE, *_SCORE_NAMES}),
    ReferenceReply: frozenset({_FIELDS, "scores.test"}),
}


def check_records(content: RecordDict, reply: type, terms: Terms) -> None:
    """Exactly the records of ``reply``, and in each only what may be there. Raises EgressRefused."""
    if not set(content) <= _RECORDS[reply]:
        raise EgressRefused("a record that no such answer has")
    fields = content.get(_FIELDS)
    if not isinstance(fields, ConfigRecord):
        raise EgressRefused("the fields are missing")
    check_fields(fields, reply, terms)
    for name, record in content.items():
        if _SCORES.fullmatch(name):
            _check_scores(_metrics(record), terms)
    if _ANSWERS in content:
        _check_answers(_metrics(content[_ANSWERS]), terms)
    if reply is JoinReply:
        _check_samples(_metrics(content.get(_SAMPLES)))
    if _SKIPPED in content:
        _check_skipped(_metrics(content[_SKIPPED]))
    if (_STATE in content) != ("manifest_hash_of_state" in fields):
        raise EgressRefused("tensors and the hash of their names do not come together")
    if _STATE in content:
        _check_arrays(content[_STATE], terms)


def _metrics(record: object) -> MetricRecord:
    if not isinstance(record, MetricRecord):
        raise EgressRefused("counts or scores that are none")
    return record


def _check_scores(record: MetricRecord, terms: Terms) -> None:
    task = terms.task
    names = {"samples", "loss", "counts"}
    if not names <= set(record) <= names | {f"{_METRIC}{name}" for name in task.metrics}:
        raise EgressRefused("scores with another field than samples, loss, counts and the task's metrics")
    samples, loss, counts = record["samples"], record["loss"], record["counts"]
    if type(samples) is not int or type(loss) is not float:
        raise EgressRefused("scores of another type than they have")
    if not math.isfinite(loss) and not (math.isnan(loss) and samples == 0):
        raise EgressRefused("a loss that is not finite")
    _check_metrics(
        {key.removeprefix(_METRIC): record[key] for key in set(record) - names}, _counts(counts, samples, task), task
    )


def _counts(found: object, samples: int, task: Task) -> list[int]:
    """As many as the task has, whatever the number of samples, so that none can be of one sample."""
    counts = [count for count in found if type(count) is int] if isinstance(found, list) else []
    if not isinstance(found, list) or len(found) != len(counts) or len(counts) != counts_length(task):
        raise EgressRefused("counts that are not the task's")
    try:
        task.vet(counts, samples)
    except ValueError:
        raise EgressRefused("counts that cannot be those of so many samples") from None
    return counts


def _check_metrics(metrics: Mapping[str, Any], counts: Sequence[int], task: Task) -> None:
    """What counts give must be what they give, so that a metric cannot say anything else."""
    given = task.metrics_of_counts(counts)
    for name, value in metrics.items():
        if type(value) is not float or math.isinf(value):
            raise EgressRefused(f"metric '{name}' is no number")
        if math.isnan(value):
            continue
        if not (0 <= value <= 1 if name in task.claimed else value == given.get(name)):
            raise EgressRefused(f"metric '{name}' is not what its counts give")


def _check_answers(record: MetricRecord, terms: Terms) -> None:
    if not terms.task.agrees:
        raise EgressRefused("answers, which this run's sites do not agree on")
    if len(record) > MOST or not all(usable(answer) for answer in record):
        raise EgressRefused("an answer that can be no class")
    least = max(1, terms.task.least)
    if not all(type(number) is int and number >= least for number in record.values()):
        raise EgressRefused("an answer that is too rare to be named")


def _check_samples(record: MetricRecord) -> None:
    if set(record) != _SPLITS or not all(type(number) is int and number >= 0 for number in record.values()):
        raise EgressRefused("numbers of samples that are not those of train, val and test")


def _check_skipped(record: MetricRecord) -> None:
    if not set(record) <= PUBLIC_REASONS or not all(type(n) is int and n >= 1 for n in record.values()):
        raise EgressRefused("a reason for what was left out that is none of the public ones")


def _check_arrays(record: object, terms: Terms) -> None:
    if terms.contract is None or not isinstance(record, ArrayRecord):
        raise EgressRefused("tensors in an answer that has none")
    manifest = terms.contract.manifest
    expected = {str(part): manifest.numel(part) for part in PARTS if manifest.numel(part)}
    if set(record) != set(expected):
        raise EgressRefused("other arrays than those of the contract")
    for part, array in record.items():
        if (array.stype, array.dtype, tuple(array.shape)) != ("numpy.ndarray", "float32", (expected[part],)):
            raise EgressRefused(f"array '{part}' is not of the contract's type and length")
