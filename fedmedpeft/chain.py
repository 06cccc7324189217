"""Lines that are chained by their hashes, and what is wrong with those that were not left as they were written.

A line is a JSON object without spaces, its keys sorted: what it says, its number ``seq``, ``previous`` (the hash of the
line before) and ``hash``, SHA-256 of ``previous`` followed by the line without ``hash``. The chain finds what was
damaged or edited. It is no signature: whoever may write the file can write another, with hashes that fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

START = "0" * 64
"""What the first line follows."""


class ChainError(Exception):
    """Which line is the first that is not as it was written, and in what way."""


class Line(BaseModel):
    """What a line says, beside its place in the chain."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    time: str
    """UTC, ISO 8601."""
    version: str
    """Of the program that wrote the line."""


@dataclass(frozen=True)
class Chain:
    """Where verified lines end: how many there are, the last one's hash, and their bytes, line feeds included."""

    lines: int = 0
    last: str = START
    size: int = 0

    def extended(self, entry: Line) -> tuple[Chain, str]:
        """The chain with one line more, and that line, which ends with a line feed.

        Raises:
            ValueError: it holds a number that is not finite.
        """
        fields = {**entry.model_dump(), "seq": self.lines + 1, "previous": self.last}
        own = _hash(fields)
        line = f"{_canonical({**fields, 'hash': own})}\n"
        return Chain(self.lines + 1, own, self.size + len(line)), line


def read_chain(lines: Sequence[bytes], take: Callable[[dict[str, Any], str], object] | None = None) -> Chain:
    """Verify ``lines``, given without their line feeds.

    Args:
        take: is given what each verified line says, without its place in the chain, and its hash.

    Raises:
        ChainError: one of them is not as it was written.
    """
    chain = Chain()
    for number, line in enumerate(lines, start=1):
        fields = _parse(number, line)
        own = fields.pop("hash")
        if own != _hash(fields):
            raise ChainError(f"Line {number} was edited: its hash does not fit what it says.")
        if fields.pop("seq") != number:
            raise ChainError(_misplaced(number, lines))
        if fields.pop("previous") != chain.last:
            raise ChainError(f"Line {number} does not continue line {number - 1}: one of them was put in later.")
        chain = Chain(number, own, chain.size + len(line) + 1)
        if take is not None:
            take(fields, own)
    return chain


def now() -> str:
    """The time of a line."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _canonical(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256((fields["previous"] + _canonical(fields)).encode()).hexdigest()


def _parse(number: int, line: bytes) -> dict[str, Any]:
    """The line's fields: text for ``hash`` and ``previous``, a number ``seq``, written as we write them."""
    try:
        fields = json.loads(line.decode("ascii"))
        written = isinstance(fields, dict) and _canonical(fields).encode() == line
    except (ValueError, RecursionError):
        written = False
    if not written or not all(isinstance(fields.get(key), str) for key in ("hash", "previous")) or "seq" not in fields:
        raise ChainError(f"Line {number} was edited or damaged: this program writes no line like it.")
    return dict(fields)


def _misplaced(number: int, lines: Sequence[bytes]) -> str:
    """Why the line at ``number``, itself as it was written, is not line ``number``."""
    earlier = list(lines[: number - 1])
    if lines[number - 1] in earlier:
        return f"Line {number} repeats line {earlier.index(lines[number - 1]) + 1}."
    if any(_number(line) == number for line in lines[number:]):
        return f"Line {number} is out of order: the line that belongs there comes later."
    return f"Line {number} was removed: what follows line {number - 1} is a later one."


def _number(line: bytes) -> object:
    try:
        return _parse(0, line)["seq"]
    except ChainError:
        return None
