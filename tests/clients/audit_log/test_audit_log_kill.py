"""kill -9 at any point: whatever had been noted before something left is in the log."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from clients.audit_log.audit_log import AuditLog, read_log
from clients.audit_log.events import Notice
from tests.killed_writer import told_until_killed

_KILLS = 40


def _note(path: Path, run: str, tell: Callable[[int], None]) -> None:
    """A worker's process: each number is told after its line has returned, as if it left the site."""
    log = AuditLog.open(path, site="Basel")
    for number in count():
        log.note(Notice(request="visit", run=run, round=number, words="as before"))
        tell(number)


def test_what_was_noted_outlives_any_kill(tmp_path: Path) -> None:
    path = tmp_path / "audit-log.jsonl"
    draw = random.Random(0)
    told: list[tuple[str, int]] = []
    for kill in range(_KILLS):
        numbers = told_until_killed(partial(_note, path, str(kill)), draw.randrange(3), draw.uniform(0, 0.02))
        told += [(str(kill), number) for number in numbers]
    AuditLog.open(path, site="Basel")
    found = read_log(path)
    noted = [(entry.run, entry.round or 0) for entry in found.entries if isinstance(entry, Notice)]
    assert len(told) > _KILLS
    assert found.mendings == ()
    assert len(set(noted)) == len(noted)
    assert set(told) <= set(noted)
    for kill in range(_KILLS):
        assert sum(run == str(kill) for run, _ in noted) <= sum(run == str(kill) for run, _ in told) + 1
