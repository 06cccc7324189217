"""The lines of a privacy ledger: what each says. How they hold together, and on the disk: :mod:`fedmedpeft.chain`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from fedmedpeft.chain import Line
from fedmedpeft.chain_book import Book, ChainedFileError
from fedmedpeft.privacy.units import Unit

FORMAT = 1

PRIVATE = "The site's privacy ledger could not be used; the site's own log says why."


class LedgerError(ChainedFileError):
    """A ledger that cannot be trusted, or is not about this data. ``public`` may leave the site: no path, no hash."""

    def __init__(self, message: str, *, public: str = PRIVATE) -> None:
        super().__init__(message, public=public)


class Opened(Line):
    """The first line: what the ledger is about, and what epsilon is per."""

    kind: Literal["opened"] = "opened"
    format: int
    data_hash: str
    unit: Unit
    units: int
    delta: float


class Adopted(Line):
    """The data set has changed; what was spent counts for the new one too."""

    kind: Literal["adopted"] = "adopted"
    data_hash: str
    units: int
    reason: str


class _Steps(Line):
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

LEDGER = Book[Entry](
    name="privacy ledger",
    entries=TypeAdapter(Annotated[Entry, Field(discriminator="kind")]),
    # Its keys are sorted.
    opening=b'{"data_hash":"',
    format=FORMAT,
    error=LedgerError,
    torn="nothing was trained for it.",
    unwritten="nothing was trained.",
    restore="from a backup that holds all that was spent; nothing trains under privacy before it verifies.",
)
