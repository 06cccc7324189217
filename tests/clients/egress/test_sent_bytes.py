"""What has left in a run is counted in a file, and a file that cannot be read lets nothing out."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from clients.egress.refused import EgressRefused
from clients.egress.sent_bytes import SentBytes


def test_bytes_add_up_by_run(tmp_path: Path) -> None:
    path = tmp_path / "state" / "sent.json"
    SentBytes(path).add("one", 60, most=100)
    SentBytes(path).add("two", 90, most=100)
    SentBytes(path).add("one", 40, most=100)
    assert (SentBytes(path).of("one"), SentBytes(path).of("two"), SentBytes(path).of("three")) == (100, 90, 0)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_too_much_is_not_counted(tmp_path: Path) -> None:
    sent = SentBytes(tmp_path / "sent.json")
    sent.add("one", 60, most=100)
    with pytest.raises(EgressRefused, match="most-bytes-of-run: 100"):
        sent.add("one", 41, most=100)
    assert sent.of("one") == 60


@pytest.mark.parametrize("content", ["", "[1]", '{"one": "many"}', "{", '{"one": null}'])
def test_a_damaged_file_lets_nothing_out(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "sent.json"
    path.write_text(content)
    with caplog.at_level(logging.ERROR), pytest.raises(EgressRefused, match="not known"):
        SentBytes(path).add("one", 1, most=100)
    assert str(path) in caplog.text
