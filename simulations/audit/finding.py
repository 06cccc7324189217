"""What an attack found, ready for the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A picture below its caption."""

    caption: str
    png: bytes


@dataclass(frozen=True)
class Finding:
    """One attack: a sentence, a table, pictures.

    Attributes:
        title: heading of its section.
        summary: one sentence for a person who knows hospitals and not this field.
        columns, rows: the table; each row as long as ``columns``. Numbers are rounded by the page.
        figures: pictures, which may show patients: they are in the page alone, never in ``audit.json``.
        notes: what to know before trusting the numbers.
        broken: a promise of the run does not hold.
    """

    title: str
    summary: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int, ...], ...]
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    broken: bool = False
