"""kill -9 at any point: whatever had been noted before something left is in the log."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from clients.audit_log.audit_log import AuditLog, read_log
from clients.audit_log.events import Notice

_KILLS = 40


def _note_until_killed(path: Path, run: str, told: int) -> None:
    """A worker's process: each number is told after its line has returned, as if it left the site."""
    log = AuditLog.open(path, site="Basel")
    number = 0
    while True:
        log.note(Notice(request="visit", run=run, round=number, words="as before"))
        os.write(told, f"{number}\n".encode())
        number += 1


def _killed(path: Path, run: str, lines: int, seconds: float) -> list[int]:
    """Numbers that had been told by a process that was killed ``seconds`` after so many of them."""
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _note_until_killed(path, run, telling)
        finally:
            os._exit(1)
    os.close(telling)
    with os.fdopen(told) as file:
        before = [int(file.readline()) for _ in range(lines)]
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        return before + [int(line) for line in file]


def test_what_was_noted_outlives_any_kill(tmp_path: Path) -> None:
    path = tmp_path / "audit-log.jsonl"
    draw = random.Random(0)
    told: list[tuple[str, int]] = []
    for kill in range(_KILLS):
        numbers = _killed(path, str(kill), draw.randrange(3), draw.uniform(0, 0.02))
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
