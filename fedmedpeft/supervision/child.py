"""One process of several that belong together: what it is, and it while it runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmedpeft.supervision.log_pump import LogPump

SECRET = "{secret}"
"""In a command: the place of a file that the process can read once and open never again."""
AFTER_HANG = "FEDMEDPEFT_AFTER_HANG"
"""In the environment of a process that was started in place of one that had stopped answering."""
CANNOT_END = (
    "it cannot be ended, as it waits inside the operating system for a disk (a network mount?) or a device (a GPU?) "
    "that does not answer. Mend that, or restart this machine"
)
INSISTENCE = 10.0
"""Seconds within which a process that was killed is gone, unless it waits inside the operating system."""


@dataclass(frozen=True)
class Account:
    """Another user, whom a process runs as. Only root can start one."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Ending:
    """Why a process ended, for a person, and how many seconds to wait before the next try (None: a little longer than
    the last time).
    """

    sentence: str
    pause: float | None = None


def plain_ending(code: int, tail: Sequence[str]) -> Ending:
    """What can be said about any process: how it ended, and the last line of its log."""
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return Ending(f"ended ({how}){f': {tail[-1]}' if tail else ''}")


def _nothing(line: str) -> str | None:
    return None


@dataclass(frozen=True)
class Child:
    """A process to start.

    Args:
        command: program and arguments; see :data:`SECRET`.
        environment: all of it.
        directory: where it works.
        log: file that gets its output.
        account: whom it runs as; None: whoever starts it.
        secret: file whose content goes through a pipe to where :data:`SECRET` stands: the process itself, and what it
            starts, need not be able to open the file.
        farewell: seconds between the request to end and the end.
        ready: whether it does its work; what comes after it waits for that. Asked from a thread, where it may take
            its time.
        hung_after: seconds without a yes of ``ready``, once there was one, after which it is killed and started again;
            None: never.
        when_ready: called once for each start, then, in a thread of its own.
        explain: exit code and last lines of the log -> what happened.
        notice: a line of its log -> what a person should know of it, or None.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    account: Account | None = None
    secret: Path | None = None
    farewell: float = 10.0
    ready: Callable[[], bool] = lambda: True
    hung_after: float | None = None
    when_ready: Callable[[], None] = lambda: None
    explain: Callable[[int, Sequence[str]], Ending] = plain_ending
    notice: Callable[[str], str | None] = _nothing


class Running:
    """A child that was started; the leader of a process group that ends with it.

    Args:
        after_hang: whether the one before it had stopped answering; see :data:`AFTER_HANG`.

    Raises:
        OSError: its program, directory or secret is not there or must not be used.
    """

    def __init__(self, child: Child, say: Callable[[str], None], *, after_hang: bool = False) -> None:
        self.child = child
        self.since = time.time()
        self._began = time.monotonic()
        with _readable_once(child) as (command, handles):
            account = child.account
            self._process = subprocess.Popen(
                command,
                cwd=child.directory,
                env={**child.environment, **({AFTER_HANG: "1"} if after_hang else {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=handles,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=account.groups if account else None,
            )
        assert self._process.stdout is not None
        self._pump = LogPump(self._process.stdout, child.log, lambda line: _tell(child.notice(line), say))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def ended(self) -> int | None:
        """Its exit code (negative: the signal that killed it); None while it runs."""
        return self._process.poll()

    def ending(self) -> Ending:
        """Why it ended; call after :meth:`ended`. What it had started ends, too."""
        self.kill()
        code = self._process.wait()
        return self.child.explain(code, self._pump.finish())

    def kill(self) -> None:
        """End it, and what it has started, without asking. It may outlive that; see :data:`CANNOT_END`."""
        self._signal(signal.SIGKILL)

    def stop(self, patience: Callable[[], float]) -> bool:
        """Ask it to end, wait as many seconds as ``patience`` says meanwhile, then insist. Whether it has ended."""
        self._signal(signal.SIGTERM)
        asked = time.monotonic()
        while self.ended() is None and time.monotonic() - asked < patience():
            time.sleep(0.05)
        self.kill()
        try:
            self._process.wait(INSISTENCE)
        except subprocess.TimeoutExpired:
            return False
        self._pump.finish()
        return True

    def _signal(self, sign: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, sign)


def _tell(sentence: str | None, say: Callable[[str], None]) -> None:
    if sentence is not None:
        say(sentence)


@contextlib.contextmanager
def _readable_once(child: Child) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """The command, and the handles that the process inherits for it."""
    if child.secret is None:
        yield list(child.command), ()
        return
    content = child.secret.read_bytes()
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(content)  # a key is far smaller than what a pipe holds, so nothing waits here
        if child.account is not None:
            os.fchown(reading, child.account.uid, child.account.gid)
        yield [argument.replace(SECRET, f"/dev/fd/{reading}") for argument in child.command], (reading,)
    finally:
        os.close(reading)
