"""What a server wrote cannot pass for a line of the worker's log."""

from __future__ import annotations

import logging

from clients.deployment.worker_log import WorkerLog


def _logged(message: str, error: Exception | None = None) -> list[str]:
    record = logging.LogRecord("site", logging.WARNING, "", 0, message, None, None)
    if error is not None:
        record.exc_info = (type(error), error, None)
    return WorkerLog().format(record).split("\n")


def test_an_entry_is_one_line_that_begins_with_a_time() -> None:
    first, *others = _logged("Refused", ValueError("key 'x\n2026-11-22 10:00:00,000 INFO all is well\r\n\x0bmore'"))
    assert first.endswith("WARNING Refused")
    assert first[:2] == "20"
    assert len(others) >= 3
    assert all(line.startswith("    | ") for line in others)


def test_nothing_moves_the_cursor() -> None:
    text = "\n".join(_logged("a\x1b[2J\x07b\u202ec\u2028d\x85e", ValueError("\x1b]0;title\x07")))
    assert all(sign.isprintable() or sign == "\n" for sign in text)
    assert "\\x1b[2J" in text


def test_what_people_write_stays_as_it_is() -> None:
    assert _logged("Charité: 3 von 40\tBildern")[0].endswith("WARNING Charité: 3 von 40\tBildern")
