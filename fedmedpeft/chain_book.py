"""What is kept in chained files of one kind, and how errors about such a file read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from fedmedpeft import __version__
from fedmedpeft.chain import Line
from fedmedpeft.components import explain

EntryT = TypeVar("EntryT", bound=Line)


class ChainedFileError(Exception):
    """A file that cannot be trusted or written. ``public`` may leave the site: no path, no hash."""

    def __init__(self, message: str, *, public: str) -> None:
        super().__init__(message)
        self.public = public


@dataclass(frozen=True)
class Book(Generic[EntryT]):
    """What is kept in chained files of one kind, and what is said of one of them. All errors are ``error``.

    Args:
        name: of such a file, in lower case.
        entries: reads what a line says.
        opening: how the first line begins, its keys being sorted; the line has a key ``format``.
        format: the latest that this program reads.
        error: what is raised.
        torn: what became of that for which a torn line was being written.
        unwritten: what became of that for which a line could not be written.
        restore: what to do with the file, and until then without it.
    """

    name: str
    entries: TypeAdapter[EntryT]
    opening: bytes
    format: int
    error: type[ChainedFileError]
    torn: str
    unwritten: str
    restore: str

    def about(self, path: Path, why: str) -> ChainedFileError:
        """For whoever has the file in hand; nothing but that it could not be used leaves the site."""
        public = f"The site's {self.name} could not be used; the site's own log says why."
        return self.error(f"The {self.name} '{path}' {why}", public=public)

    def broken(self, path: Path, why: str) -> ChainedFileError:
        return self.about(path, f"does not verify. {why} Restore it and '{path.name}.head' together {self.restore}")

    def other(self, path: Path) -> ChainedFileError:
        public = f"The site's {self.name} could not be used; the site's own log says why."
        return self.error(f"'{path}' is no {self.name}; it is left as it is. Name another file.", public=public)

    def no_room(self, path: Path, error: OSError) -> ChainedFileError:
        return self.error(
            f"The {self.name} '{path}' cannot be written ({error.strerror or error}); {self.unwritten} "
            "Free space, or let the site's user write there.",
            public=f"The site's {self.name} could not be written.",
        )

    def check_format(self, path: Path, first: bytes) -> None:
        """Refuse what a later version began, in whatever other way it chains its lines."""
        try:
            fields = json.loads(first)
        except (ValueError, RecursionError):
            return
        found = fields.get("format") if isinstance(fields, dict) else None
        if isinstance(found, int) and found > self.format:
            ours = f"fedmedpeft {__version__} reads {self.format}"
            raise self._later(path, f"It has format {found}, of fedmedpeft {fields.get('version')}, and {ours}.")

    def entry(self, path: Path, number: int, fields: dict[str, Any]) -> EntryT:
        """What line ``number`` says, whose hash fits."""
        try:
            return self.entries.validate_python(fields)
        except ValidationError as error:
            says = f"says what fedmedpeft {__version__} does not understand ({explain(error)})"
            raise self._later(path, f"Line {number}, of fedmedpeft {fields.get('version')}, {says}.") from None

    def _later(self, path: Path, why: str) -> ChainedFileError:
        return self.error(
            f"The {self.name} '{path}' cannot be read. {why} Update fedmedpeft at this site.",
            public=f"The site's {self.name} was written by a later version of the program than the site runs.",
        )
