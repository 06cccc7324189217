"""The audit log of a site: on the disk when it returns, and nothing leaves where it cannot be."""

from __future__ import annotations

import logging
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.audit_log.audit_log import AuditLog, AuditLogError, read_log
from clients.audit_log.events import Opened, Stopped
from tests.clients.audit_log.events_of_a_run import ALL, ASKED, LEFT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "audit-log.jsonl"


def _open(path: Path) -> AuditLog:
    return AuditLog.open(path, site="Basel")


def test_what_was_noted_is_there_for_whoever_reads_it(path: Path) -> None:
    log = _open(path)
    for event in ALL:
        log.note(event)
    found = read_log(path)
    assert isinstance(found.entries[0], Opened)
    assert (found.entries[0].site, found.entries[1:]) == ("Basel", ALL)
    assert log.lines == len(ALL) + 1
    assert (_open(path).lines, _open(path).mended) == (log.lines, ())


def test_a_line_is_on_the_disk_when_it_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushed, in this order: the line, its head file, their directory."""
    log = _open(path)
    flushed: list[str] = []
    monkeypatch.setattr("os.fsync", lambda handle: flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name))
    log.note(ASKED)
    line, head, directory = flushed
    assert (line, directory) == ("audit-log.jsonl", "audit")
    assert head.startswith(".audit-log.jsonl.head")


def test_only_the_sites_user_may_read_it(path: Path) -> None:
    _open(path).note(ASKED)
    for file in (path, path.with_name(f"{path.name}.head")):
        assert file.stat().st_mode & 0o777 == 0o600


def test_lines_are_not_verified_again_for_each_note(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = _open(path)
    monkeypatch.setattr("fedmedpeft.chained_file.read_chain", None)
    for _ in range(3):
        log.note(ASKED)
    assert log.lines == 4


@contextmanager
def _files_no_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("left", [0, 1, 300])
def test_a_full_disk_refuses_and_leaves_the_log_as_it_was(path: Path, left: int) -> None:
    log = _open(path)
    log.note(ASKED)
    before = path.read_bytes()
    with (
        _files_no_larger_than(path.stat().st_size + left),
        pytest.raises(AuditLogError, match=r"cannot be written.*; nothing leaves the site") as caught,
    ):
        log.note(LEFT)
    assert caught.value.public == "The site's audit log could not be written."
    assert path.read_bytes() == before
    log.note(LEFT)
    assert read_log(path).entries[1:] == (ASKED, LEFT)


def test_where_only_the_head_file_fails_it_refuses_and_the_line_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _open(path)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fedmedpeft.chained_file.write_atomically", full)
        with pytest.raises(AuditLogError, match="No space left"):
            log.note(LEFT)
    log.note(Stopped())
    assert [type(entry).__name__ for entry in read_log(path).entries] == ["Opened", "Left", "Stopped"]
    assert "one line behind" in log.mended[0]


def test_a_log_that_was_edited_lets_nothing_be_noted(path: Path) -> None:
    log = _open(path)
    log.note(ASKED)
    edited = path.read_bytes().replace(b'"bytes":101000', b'"bytes":10100')
    path.write_bytes(edited)
    for use in (lambda: log.note(LEFT), lambda: _open(path), lambda: read_log(path)):
        with pytest.raises(AuditLogError, match="Line 2 was edited.*nothing leaves the site before that") as caught:
            use()
        assert str(path.parent) not in caught.value.public
    assert path.read_bytes() == edited


def test_a_log_that_was_taken_away_lets_nothing_be_noted(path: Path) -> None:
    log = _open(path)
    for file in (path, path.with_name(f"{path.name}.head")):
        file.unlink()
        with pytest.raises(AuditLogError, match="file is gone|has no line"):
            log.note(LEFT)
    assert not path.exists()


def test_a_log_of_another_site_is_refused(path: Path) -> None:
    _open(path)
    with pytest.raises(AuditLogError, match="is of site 'Basel', and this site is 'Chur'") as caught:
        AuditLog.open(path, site="Chur")
    assert "Basel" not in caught.value.public


def test_it_opens_once_and_first(path: Path) -> None:
    log = _open(path)
    log.note(Opened(site="Chur"))
    for use in (lambda: _open(path), lambda: read_log(path)):
        with pytest.raises(AuditLogError, match="must open once, with line 1"):
            use()


def test_what_is_mended_is_said_in_the_sites_own_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _open(path).note(ASKED)
    with path.open("ab") as file:
        file.write(b'{"bytes":1')
    assert "torn" in read_log(path).mendings[0]
    with caplog.at_level(logging.WARNING, "fedmedpeft.site"):
        log = _open(path)
    assert log.mended == ("Its last line was torn when a process was killed; nothing had left for it.",)
    assert log.mended[0] in caplog.text
    assert read_log(path).mendings == ()


@settings(deadline=None)  # files, on whatever disk
@given(st.data())
def test_any_byte_of_a_log_that_was_changed_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed" / "audit-log.jsonl"
    if not path.exists():
        log = _open(path)
        for event in ALL:
            log.note(event)
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.binary(max_size=1).filter(lambda byte: byte != whole[position : position + 1]))
    path.write_bytes(whole[:position] + byte + whole[position + 1 :])
    try:
        with pytest.raises(AuditLogError):
            read_log(path)
    finally:
        path.write_bytes(whole)


def test_threads_write_one_line_at_a_time(path: Path) -> None:
    log = _open(path)
    others = [log, log, _open(path)]
    threads = [threading.Thread(target=lambda one=one: [one.note(ASKED) for _ in range(15)]) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_log(path).entries) == 46


_WRITER = """
import sys
from pathlib import Path
from clients.audit_log.audit_log import AuditLog
from clients.audit_log.events import Notice
log = AuditLog.open(Path(sys.argv[1]), site="Basel")
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    log.note(Notice(request="visit", run=sys.argv[2], round=number, words="as before"))
"""


def test_processes_write_one_line_at_a_time(path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    noted = [(entry.run, entry.round) for entry in read_log(path).entries if not isinstance(entry, Opened)]
    for name in ("one", "two"):
        assert [number for run, number in noted if run == name] == list(range(20))
