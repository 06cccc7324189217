from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedpeft.supervision.record import endings, read_record


@pytest.mark.parametrize("content", [None, "", "no JSON", "[]", '{"children": 3}', '{"children": {"a": 3}}'])
def test_a_record_that_is_not_there_or_damaged_tells_nothing(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "processes.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert read_record(path) == {}


def test_what_ended_last_and_why(tmp_path: Path) -> None:
    path = tmp_path / "processes.json"
    hung = {"at": 1000.0, "why": "did not answer for 120 s, and was ended"}
    children = {"worker": {"pid": 5, "ended": hung}, "supernode": {"pid": 6, "ended": None}, "superexec": {"pid": 7}}
    path.write_text(json.dumps({"pid": 1, "children": children}), encoding="utf-8")
    told = read_record(path)
    assert told == children
    assert list(endings(told, 1300.0)) == ["worker last ended 5 min ago: did not answer for 120 s, and was ended"]
    # The clock was set back meanwhile.
    assert list(endings(told, 0.0)) == ["worker last ended 0 min ago: did not answer for 120 s, and was ended"]
