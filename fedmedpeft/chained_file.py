"""Chained lines on disk: a line that was appended is on the disk before anything else happens.

Beside ``x`` lie ``x.head``, how many lines there are and the hash of the last, which shows that the end was cut off;
and ``x.lock``, held by whoever writes. A process killed at any point leaves one of: nothing, a torn last line (it never
counted, and is dropped), or a head file that is one line behind (the line counts). Anything else is refused.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.chain import Chain, ChainError, read_chain
from fedmedpeft.chain_book import Book, EntryT
from fedmedpeft.file_lock import locked

_READABLE_BY_ITS_OWNER = 0o600
_TRIES = 20


@dataclass(frozen=True)
class Found(Generic[EntryT]):
    """What lies on disk, verified: where it ends, every line and its hash, and in a sentence each what to mend."""

    chain: Chain
    entries: tuple[EntryT, ...]
    hashes: tuple[str, ...]
    mendings: tuple[str, ...]


@dataclass(frozen=True)
class ChainedFile(Generic[EntryT]):
    """The file ``path`` of a ``book``, and what lies beside it. Raises the book's error."""

    path: Path
    book: Book[EntryT]

    @property
    def head(self) -> Path:
        return _head_beside(self.path)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock: no other process, and no other thread, writes. Refuses where the disk does, also within."""
        try:
            with locked(self.path.with_name(f"{self.path.name}.lock"), wait=True):
                yield
        except OSError as error:
            raise self.book.no_room(self.path, error) from error

    def read(self) -> Found[EntryT]:
        """Read and verify, while others may write. Refuses what is not as it was written, or cannot be read."""
        try:
            for _ in range(_TRIES):
                head, content = _content(self.head), _content(self.path)
                if head == _content(self.head):
                    return self._verify(head, content)
        except OSError as error:
            why = f"cannot be read ({error.strerror or error}). Let the site's user read it."
            raise self.book.about(self.path, why) from error
        raise self.book.about(self.path, "is written all the time; try again.")

    def mend(self, found: Found[EntryT]) -> None:
        """Drop a torn last line and bring the head file up to date. Only while holding the lock."""
        if found.mendings:
            with self.path.open("r+b") as file:
                file.truncate(found.chain.size)
                os.fsync(file.fileno())
            self._write_head(found.chain)

    def append(self, chain: Chain, entry: EntryT) -> Chain:
        """Add a line to ``chain``: on the disk when this returns. Only while holding the lock.

        Raises:
            OSError: it could not be written. Then the file is as it was, or has a torn line, or the line, which counts.
        """
        longer, line = chain.extended(entry)
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _READABLE_BY_ITS_OWNER)
        try:
            try:
                rest = line.encode()
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, chain.size)
                raise
        finally:
            os.close(handle)
        self._write_head(longer)
        return longer

    def unchanged(self, chain: Chain) -> bool:
        """Whether nobody has written since: then its lines need not be verified once more."""
        same_size = self.path.is_file() and self.path.stat().st_size == chain.size
        return same_size and _content(self.head) == _head_text(chain)

    def _verify(self, head: bytes | None, content: bytes | None) -> Found[EntryT]:
        if content is None and head is not None:
            raise self.book.broken(self.path, "The file is gone, but its head file is there.")
        whole, line_feed, torn = (content or b"").rpartition(b"\n")
        opening = self.book.opening
        if not line_feed and not opening.startswith(torn[: len(opening)]):
            raise self.book.other(self.path)
        lines = whole.split(b"\n") if line_feed else []
        entries: list[EntryT] = []
        hashes: list[str] = []

        def take(fields: dict[str, Any], own: str) -> None:
            entries.append(self.book.entry(self.path, len(entries) + 1, fields))
            hashes.append(own)

        if lines:
            self.book.check_format(self.path, lines[0])
        try:
            chain = read_chain(lines, take)
        except ChainError as error:
            raise self.book.broken(self.path, str(error)) from None
        mendings = [f"Its last line was torn when a process was killed; {self.book.torn}"] if torn else []
        if head != _head_text(chain) and (lines or head is not None):
            self._check_head(head, hashes)
            mendings.append("Its head file was one line behind, as a process was killed; the line counts.")
        return Found(chain, tuple(entries), tuple(hashes), tuple(mendings))

    def _check_head(self, head: bytes | None, hashes: list[str]) -> None:
        """Refuse a head file that is not the last line's, unless it is the one before's."""
        lines = len(hashes)
        if head == (_head_text(Chain(lines - 1, hashes[-2])) if lines > 1 else None):
            return
        broken = functools.partial(self.book.broken, self.path)
        if head is None:
            raise broken(f"Its head file '{self.head.name}' is gone, and there are {lines} lines.")
        said = _said(head)
        if said is None:
            raise broken(f"Its head file '{self.head.name}' is damaged.")
        count, last = said
        if count > lines:
            raise broken(f"It was cut off: it has {lines} lines, and its head file says {count}.")
        if count < lines - 1 or count < 1:
            raise broken(f"Its head file is an old one: it says {count} lines, and there are {lines}.")
        if last != hashes[count - 1]:
            noun = self.book.name.split()[-1]
            raise broken(f"Its head file is another {noun}'s, or line {count} was replaced.")
        raise broken(f"Its head file '{self.head.name}' is damaged.")

    def _write_head(self, chain: Chain) -> None:
        write_atomically(self.head, _head_text(chain), mode=_READABLE_BY_ITS_OWNER)
        # The names of both files, which a power failure could take back.
        handle = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def said_by_head(path: Path) -> tuple[int, str] | None:
    """How many lines the head file of ``path`` says there are, and the last one's hash; None where it says nothing.

    Nothing is verified, and there may be one line more.

    Raises:
        OSError: it cannot be read.
    """
    head = _content(_head_beside(path))
    return None if head is None else _said(head)


def _head_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.head")


def _said(head: bytes) -> tuple[int, str] | None:
    """Lines and hash in a head file; None where it is damaged."""
    try:
        fields = json.loads(head)
        return int(fields["lines"]), str(fields["hash"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _head_text(chain: Chain) -> bytes:
    return json.dumps({"lines": chain.lines, "hash": chain.last}).encode() + b"\n"
