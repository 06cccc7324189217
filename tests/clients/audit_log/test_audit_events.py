"""What an audit log can hold at all: no images, labels, patients, paths or errors."""

from __future__ import annotations

import math
import typing
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from clients.audit_log import plain
from clients.audit_log.events import Asked, Event, Left, Notice, Opened, PolicyRead, Refused, Started, Trained
from clients.policy_section import PolicySection
from fedmedpeft.exchange.messages import Refusal
from tests.clients.audit_log.events_of_a_run import ALL, ASKED, CAME, DATA, LEFT

_EVENTS: tuple[type[Any], ...] = get_args(Event)
_ALIASES = [value for value in vars(plain).values() if get_origin(value) is typing.Annotated]


def _is_plain(annotation: Any) -> bool:
    """Numbers, enumerated words, and the types of ``plain``: nothing that free text fits into."""
    if annotation in _ALIASES or annotation in (int, float, type(None)) or get_origin(annotation) is Literal:
        return True
    return get_origin(annotation) is not None and all(_is_plain(part) for part in get_args(annotation))


@pytest.mark.parametrize("event", _EVENTS, ids=lambda event: event.__name__)
def test_no_field_of_any_line_takes_free_text(event: type[Any]) -> None:
    hints = typing.get_type_hints(event, include_extras=True)
    assert {"kind", "time", "version"} <= set(event.model_fields)
    for name in event.model_fields:
        assert _is_plain(hints[name]), f"{event.__name__}.{name}"


def test_the_test_above_can_fail() -> None:
    assert not _is_plain(str)
    assert not _is_plain(dict[plain.Name, str])
    assert not _is_plain(tuple[bytes, ...])
    assert _is_plain(dict[plain.Name, plain.Count])


def test_the_examples_are_all_there_are() -> None:
    assert {type(event) for event in ALL} | {Opened} == set(_EVENTS)


def test_what_a_server_says_is_noted_whatever_it_is() -> None:
    event = Asked(
        request="visit",
        run="../../etc/passwd\n\x1b[2J",
        round=-(2**63),
        bytes=10,
        content_hash=CAME,
        state_norm=math.nan,
        manifest_hash="Jane Doe, born 1950",
        run_hash="",
    )
    assert event.run.startswith("not-plain-")
    assert (event.state_norm, event.manifest_hash, event.run_hash) == (None, None, None)
    notice = Notice(request="visit", words="a\nb\x1b[31m\u202e" + "x" * 1000)
    assert notice.words.startswith("a b [31m xxx")
    assert len(notice.words) == plain.LONGEST_SENTENCE


@given(st.text())
def test_names_and_sentences_are_one_line_and_stay_as_they_are(text: str) -> None:
    for tame in (plain.plain_name, plain.sentence):
        once = tame(text)
        assert once == "" or (once.isprintable() and len(once) <= plain.LONGEST_SENTENCE)
        assert tame(once) == once


def test_different_names_that_are_not_plain_stay_different() -> None:
    assert plain.plain_name("a\n") != plain.plain_name("b\n")
    for name in ("lora-run 2", "val/accuracy", "Charité (Mitte)", "recall@5", ""):
        assert plain.plain_name(name) == name


@pytest.mark.parametrize(
    ("event", "values"),
    [
        (Opened, {"site": "../a"}),
        (Opened, {"site": "Basel", "patient": "Jane Doe"}),
        (Asked, {"request": "jane", "bytes": 1, "content_hash": CAME}),
        (Asked, {"request": "visit", "bytes": -1, "content_hash": CAME}),
        (Asked, {"request": "visit", "bytes": 1, "content_hash": "a file name"}),
        (Trained, {"request": "visit", "data_hash": DATA, "records": "9", "steps": 1, "seconds": 1.0}),
        (Trained, {"request": "visit", "data_hash": DATA, "records": 9, "steps": 1, "seconds": math.inf}),
        (Left, {"request": "visit", "bytes": 1, "content_hash": CAME, "manifest_hash": "x"}),
        (Left, {"request": "visit", "bytes": 1, "content_hash": CAME, "parts": {"head": "Jane"}}),
        (Refused, {"request": "visit", "code": "PATIENT_7", "stage": "policy", "reason": "x"}),
        (Refused, {"request": "visit", "code": "POLICY", "stage": "elsewhere", "reason": "x"}),
        (Started, {"versions": {"torch": "2.13 on jane's machine"}}),
        (PolicyRead, {"policy_hash": "everything"}),
        (Notice, {"request": "visit", "words": "x", "time": "yesterday"}),
    ],
)
def test_what_the_site_itself_says_must_be_what_it_should(event: type[Any], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        event(**values)


def test_every_refusal_has_a_line() -> None:
    for code in Refusal:
        assert Refused(request="join", code=code.name, stage="training", reason="why").code == code.name


def test_lines_are_read_back_as_they_were() -> None:
    adapter: TypeAdapter[Event] = TypeAdapter(Event)
    for event in ALL:
        assert adapter.validate_json(event.model_dump_json()) == event


def test_lines_say_when_and_by_which_program() -> None:
    assert ASKED.time.endswith("+00:00")
    assert ASKED.version == Started.here().versions["fedmedpeft"]
    assert {"python", "torch", "flwr"} < set(Started.here().versions)


def test_a_policy_that_changed_has_another_hash() -> None:
    same, other = PolicySection(), PolicySection.model_validate({"most-rounds": 199})
    assert PolicyRead.of(PolicySection()).policy_hash == PolicyRead.of(same).policy_hash
    assert PolicyRead.of(other).policy_hash != PolicyRead.of(same).policy_hash


def test_an_infinite_epsilon_is_none_and_a_whole_norm_a_number() -> None:
    changed = LEFT.model_dump() | {"epsilon": math.inf, "update_norm": 1}
    assert (Left(**changed).epsilon, Left(**changed).update_norm) == (None, 1.0)
