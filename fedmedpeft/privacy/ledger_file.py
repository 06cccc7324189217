"""A privacy ledger on disk: a line that was appended is on the disk before anything else happens.

Beside ``x`` lie ``x.head``, how many lines there are and the hash of the last, which shows that the end was cut off;
and ``x.lock``, held by whoever writes. A process killed at any point leaves one of: nothing, a torn last line (it never
counted, and is dropped), or a head file that is one line behind (the line counts). Anything else is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.file_lock import locked
from fedmedpeft.privacy.ledger_lines import OPENING, Chain, Entry, LedgerError, UnknownFormatError, read_chain

_READABLE_BY_ITS_OWNER = 0o600
_TRIES = 20


@dataclass(frozen=True)
class Found:
    """What lies on disk: the verified chain, its size in bytes, and in a sentence each what a crash left to mend."""

    chain: Chain
    size: int
    mendings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LedgerFile:
    """The file ``path`` and what lies beside it."""

    path: Path

    @property
    def head(self) -> Path:
        return self.path.with_name(f"{self.path.name}.head")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock: no other process, and no other thread, writes.

        Raises:
            LedgerError: the disk does not let us, here or within the block.
        """
        try:
            with locked(self.path.with_name(f"{self.path.name}.lock"), wait=True):
                yield
        except OSError as error:
            raise LedgerError(
                f"The privacy ledger '{self.path}' cannot be written ({error.strerror or error}); nothing was trained. "
                "Free space, or let the site's user write there.",
                public="The site's privacy ledger could not be written.",
            ) from error

    def read(self) -> Found:
        """Read and verify, while others may write.

        Raises:
            LedgerError: the ledger is not as it was written, or cannot be read.
        """
        try:
            for _ in range(_TRIES):
                head, content = _content(self.head), _content(self.path)
                if head == _content(self.head):
                    return self._verify(head, content)
        except OSError as error:
            raise LedgerError(
                f"The privacy ledger '{self.path}' cannot be read ({error.strerror or error})."
            ) from error
        raise LedgerError(f"The privacy ledger '{self.path}' is written all the time; try again.")

    def mend(self, found: Found) -> None:
        """Drop a torn last line and bring the head file up to date. Only while holding the lock."""
        if found.mendings:
            with self.path.open("r+b") as file:
                file.truncate(found.size)
                os.fsync(file.fileno())
            self._write_head(found.chain)

    def append(self, found: Found, entry: Entry) -> Found:
        """Add a line to what was ``found``: on the disk when this returns. Only while holding the lock.

        Raises:
            OSError: it could not be written. Then the file is as it was, or has a torn line, or the line, which counts.
        """
        chain, line = found.chain.extended(entry)
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _READABLE_BY_ITS_OWNER)
        try:
            try:
                rest = line.encode()
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, found.size)
                raise
        finally:
            os.close(handle)
        self._write_head(chain)
        return Found(chain, found.size + len(line))

    def unchanged(self, found: Found) -> bool:
        """Whether nobody has written since: then its lines need not be verified once more."""
        same_size = self.path.is_file() and self.path.stat().st_size == found.size
        return same_size and _content(self.head) == _head_text(found.chain)

    def _verify(self, head: bytes | None, content: bytes | None) -> Found:
        if content is None and head is not None:
            raise self._broken("The file is gone, but its head file is there.")
        whole, line_feed, torn = (content or b"").rpartition(b"\n")
        if not line_feed and not OPENING.startswith(torn[: len(OPENING)]):
            raise LedgerError(f"'{self.path}' is no privacy ledger; it is left as it is. Name another file.")
        try:
            chain = read_chain(whole.split(b"\n") if line_feed else [])
        except UnknownFormatError as error:
            raise LedgerError(
                f"The privacy ledger '{self.path}' cannot be read. {error}", public=error.public
            ) from None
        except LedgerError as error:
            raise self._broken(str(error)) from None
        mendings = ["Its last line was torn when a process was killed; nothing was trained for it."] if torn else []
        if head != _head_text(chain) and (chain.entries or head is not None):
            self._check_head(head, chain)
            mendings.append("Its head file was one line behind, as a process was killed; the line counts.")
        return Found(chain, len(whole) + len(line_feed), tuple(mendings))

    def _check_head(self, head: bytes | None, chain: Chain) -> None:
        """Refuse a head file, which does not agree with ``chain``, unless it is the one before the last line."""
        lines = len(chain.hashes)
        if head is None:
            if lines > 1:
                raise self._broken(f"Its head file '{self.head.name}' is gone, and there are {lines} lines.")
            return
        try:
            fields = json.loads(head)
            count, last = int(fields["lines"]), str(fields["hash"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._broken(f"Its head file '{self.head.name}' is damaged.") from None
        if count > lines:
            raise self._broken(f"It was cut off: it has {lines} lines, and its head file says {count}.")
        if count < lines - 1 or count < 1:
            raise self._broken(f"Its head file is an old one: it says {count} lines, and there are {lines}.")
        if last != chain.hashes[count - 1]:
            raise self._broken(f"Its head file is another ledger's, or line {count} was replaced.")

    def _write_head(self, chain: Chain) -> None:
        write_atomically(self.head, _head_text(chain), mode=_READABLE_BY_ITS_OWNER)
        # The names of both files, which a power failure could take back.
        handle = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _broken(self, why: str) -> LedgerError:
        return LedgerError(
            f"The privacy ledger '{self.path}' does not verify. {why} Restore it and '{self.head.name}' together from "
            "a backup that holds all that was spent; nothing trains under privacy before it verifies."
        )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _head_text(chain: Chain) -> bytes:
    return json.dumps({"lines": len(chain.hashes), "hash": chain.last}).encode() + b"\n"
