"""The audit log of a site: what is noted is on the disk before anything leaves for it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, TypeAdapter

from clients.audit_log.events import FORMAT, Event, Opened
from fedmedpeft.chain import Chain
from fedmedpeft.chain_book import Book, ChainedFileError
from fedmedpeft.chained_file import ChainedFile, Found

_log = logging.getLogger("fedmedpeft.site")


class AuditLogError(ChainedFileError):
    """A log that cannot be written or trusted: nothing may leave. ``public`` may: no path, no hash."""


BOOK = Book[Event](
    name="audit log",
    entries=TypeAdapter(Annotated[Event, Field(discriminator="kind")]),
    # Its keys are sorted.
    opening=b'{"format":',
    format=FORMAT,
    error=AuditLogError,
    torn="nothing had left for it.",
    unwritten="nothing leaves the site before it can.",
    restore="from a backup, or move them away together, keep them, and let a new log begin; nothing leaves the site "
    "before that.",
)


class AuditLog:
    """Several objects, threads and processes may share a file; one line at a time is written to it.

    Attributes:
        mended: what crashes had left half done, a sentence each.
    """

    def __init__(self, file: ChainedFile[Event], chain: Chain, mended: tuple[str, ...]) -> None:
        self.mended = mended
        self._file = file
        self._chain = chain

    @classmethod
    def open(cls, path: Path, *, site: str) -> Self:
        """The audit log of ``site`` at ``path``, begun where there is none. Verifies every line there is.

        Raises:
            AuditLogError: it does not verify, cannot be written, or is another site's.
        """
        file = ChainedFile(path, BOOK)
        with file.writing():
            found = file.read()
            file.mend(found)
            _say(path, found.mendings)
            if not found.entries:
                return cls(file, file.append(found.chain, Opened(site=site)), found.mendings)
        owner = _owner(path, found)
        if owner != site:
            raise AuditLogError(
                f"The audit log '{path}' is of site '{owner}', and this site is '{site}'. Give each site its own "
                "`state` directory; if the site was renamed, move the log and its head file away and keep them.",
                public="The site's audit log is another site's.",
            )
        return cls(file, found.chain, found.mendings)

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def lines(self) -> int:
        """How many there were when this object last wrote or read."""
        return self._chain.lines

    def note(self, event: Event) -> None:
        """Add a line; it is on the disk when this returns.

        Raises:
            AuditLogError: it is not: what the line is about must not happen.
        """
        with self._file.writing():
            if not self._file.unchanged(self._chain):
                found = self._file.read()
                self._file.mend(found)
                _say(self.path, found.mendings)
                _owner(self.path, found)
                self._chain = found.chain
                self.mended += found.mendings
            self._chain = self._file.append(self._chain, event)


def read_log(path: Path) -> Found[Event]:
    """All lines of the log at ``path``, verified. Writes nothing; ``mendings`` is what opening it would mend.

    Raises:
        AuditLogError: there is none, or it does not verify.
    """
    found = ChainedFile(path, BOOK).read()
    _owner(path, found)
    return found


def _owner(path: Path, found: Found[Event]) -> str:
    """The site whose log it is."""
    if not found.entries:
        raise BOOK.about(path, "has no line.")
    first, *others = found.entries
    if not isinstance(first, Opened) or any(isinstance(entry, Opened) for entry in others):
        raise BOOK.broken(path, "It must open once, with line 1.")
    return first.site


def _say(path: Path, mendings: tuple[str, ...]) -> None:
    """What was mended goes to the site's own log."""
    for sentence in mendings:
        _log.warning("Audit log '%s': %s", path, sentence)
