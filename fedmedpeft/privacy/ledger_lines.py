"""The lines of a privacy ledger: what each says, and the chain of hashes that holds them together.

A line is a JSON object without spaces, its keys sorted: the entry, its number ``seq``, ``previous`` (the hash of the
line before) and ``hash``, SHA-256 of ``previous`` followed by the line without ``hash``. The chain finds what was
damaged or edited. It is no signature: whoever may write the file can write another, with hashes that fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fedmedpeft import __version__
from fedmedpeft.components import explain
from fedmedpeft.privacy.units import Unit

FORMAT = 1
START = "0" * 64
"""What the first line follows."""
OPENING = b'{"data_hash":"'
"""How the first line begins, its keys being sorted."""

PRIVATE = "The site's privacy ledger could not be used; the site's own log says why."


class LedgerError(Exception):
    """A ledger that cannot be trusted, or is not about this data. ``public`` may leave the site: no path, no hash."""

    def __init__(self, message: str, *, public: str = PRIVATE) -> None:
        super().__init__(message)
        self.public = public


class UnknownFormatError(LedgerError):
    """Whole, as far as one can tell, but written by a later version of the program."""

    def __init__(self, message: str) -> None:
        later = "The site's privacy ledger was written by a later version of the program than the site runs."
        super().__init__(f"{message} Update fedmedpeft at this site.", public=later)


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    time: str
    """UTC, ISO 8601."""
    version: str
    """Of the program that wrote the line."""


class Opened(_Line):
    """The first line: what the ledger is about, and what epsilon is per."""

    kind: Literal["opened"] = "opened"
    format: int
    data_hash: str
    unit: Unit
    units: int
    delta: float


class Adopted(_Line):
    """The data set has changed; what was spent counts for the new one too."""

    kind: Literal["adopted"] = "adopted"
    data_hash: str
    units: int
    reason: str


class _Steps(_Line):
    run: str
    noise_multiplier: float
    sample_rate: float
    steps: int


class Planned(_Steps):
    """What a run means to spend in all of its rounds. Costs nothing."""

    kind: Literal["planned"] = "planned"
    budget: float | None = None
    """The epsilon that its noise was chosen for; None: the noise was given."""


class Spent(_Steps):
    """What a round costs, written before it trains. Epsilons are by ``accounting``, of the whole ledger."""

    kind: Literal["spent"] = "spent"
    round: int
    accounting: str
    budget: float | None
    """None: without one."""
    epsilon_before: float
    epsilon_after: float


Entry = Opened | Adopted | Planned | Spent
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


@dataclass(frozen=True)
class Chain:
    """Verified lines: how many, the last one's hash, and what they say."""

    entries: tuple[Entry, ...] = ()
    hashes: tuple[str, ...] = ()

    @property
    def last(self) -> str:
        return self.hashes[-1] if self.hashes else START

    def extended(self, entry: Entry) -> tuple[Chain, str]:
        """The chain with one line more, and that line, which ends with a line feed."""
        fields = {**entry.model_dump(), "seq": len(self.entries) + 1, "previous": self.last}
        own = _hash(fields)
        return Chain((*self.entries, entry), (*self.hashes, own)), f"{_canonical({**fields, 'hash': own})}\n"


def read_chain(lines: Sequence[bytes]) -> Chain:
    """Verify ``lines``, given without their line feeds.

    Raises:
        UnknownFormatError: a later version wrote it.
        LedgerError: which line is the first that is not as it was written, and in what way.
    """
    objects = [_parse(number, line) for number, line in enumerate(lines, start=1)]
    if objects:
        _check_format(objects[0])
    entries: list[Entry] = []
    hashes: list[str] = []
    for number, fields in enumerate(objects, start=1):
        own = fields.pop("hash")
        if own != _hash(fields):
            raise LedgerError(f"Line {number} was edited: its hash does not fit what it says.")
        if fields.pop("seq") != number:
            raise LedgerError(_misplaced(number, own, hashes, objects))
        if fields.pop("previous") != (hashes[-1] if hashes else START):
            raise LedgerError(f"Line {number} does not continue line {number - 1}: one of them was put in later.")
        entries.append(_entry(number, fields))
        hashes.append(own)
    return Chain(tuple(entries), tuple(hashes))


def _canonical(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256((fields["previous"] + _canonical(fields)).encode()).hexdigest()


def _parse(number: int, line: bytes) -> dict[str, Any]:
    """The line's fields: text for ``hash`` and ``previous``, a whole number for ``seq``, written as we write them."""
    try:
        fields = json.loads(line.decode("ascii"))
        written = isinstance(fields, dict) and _canonical(fields).encode() == line
    except (ValueError, RecursionError):
        written = False
    if not written or not all(isinstance(fields.get(key), str) for key in ("hash", "previous")) or "seq" not in fields:
        raise LedgerError(f"Line {number} was edited or damaged: no ledger writes a line like it.")
    return dict(fields)


def _check_format(first: dict[str, Any]) -> None:
    found = first.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise UnknownFormatError(
            f"It has format {found}, of fedmedpeft {first.get('version')}, and fedmedpeft {__version__} reads {FORMAT}."
        )


def _misplaced(number: int, own: str, hashes: list[str], objects: list[dict[str, Any]]) -> str:
    """Why the line at ``number``, itself as it was written, is not line ``number``."""
    if own in hashes:
        return f"Line {number} repeats line {hashes.index(own) + 1}."
    if any(fields.get("seq") == number for fields in objects[number:]):
        return f"Line {number} is out of order: the line that belongs there comes later."
    return f"Line {number} was removed: what follows line {number - 1} is a later one."


def _entry(number: int, fields: dict[str, Any]) -> Entry:
    try:
        return _ENTRY.validate_python(fields)
    except ValidationError as error:
        raise UnknownFormatError(
            f"Line {number}, of fedmedpeft {fields.get('version')}, says what fedmedpeft {__version__} does not "
            f"understand ({explain(error)})."
        ) from None
