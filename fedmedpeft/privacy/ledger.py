"""The privacy ledger of a data set: what has been spent on it, over rounds, runs, restarts and versions.

A file of lines at the site, one for each thing that happened, never rewritten. ``spend`` is called before the training
that it pays for and returns when the line is on the disk: training that is cut short stays paid.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmedpeft import __version__
from fedmedpeft.chain import Chain, now
from fedmedpeft.chained_file import ChainedFile, Found
from fedmedpeft.privacy.accountant import BudgetExceeded, Spending, epsilon
from fedmedpeft.privacy.ledger_identity import check_delta, refuse_other_data, refuse_other_terms
from fedmedpeft.privacy.ledger_lines import FORMAT, LEDGER, Adopted, Entry, LedgerError, Opened, Planned, Spent
from fedmedpeft.privacy.terms import Accounting
from fedmedpeft.privacy.units import Unit

__all__ = ["LEDGER_SUFFIX", "Ledger", "LedgerError"]

LEDGER_SUFFIX = ".ledger.jsonl"
_log = logging.getLogger("fedmedpeft.site")


class Ledger:
    """What was spent on one data set. Several objects and processes may share a file: each spends on top of all others.

    Attributes:
        accounting: by which epsilon is computed where nothing else is asked for.
        mended: what crashes had left half done, a sentence each.
    """

    _chain: Chain
    _entries: list[Entry]
    _opened: Opened
    _data: Opened | Adopted
    _history: list[Spending]

    def __init__(
        self, file: ChainedFile[Entry], found: Found[Entry], accounting: Accounting, data_hash: str | None
    ) -> None:
        self.accounting: Accounting = accounting
        self.mended: tuple[str, ...] = ()
        self._file = file
        self._about = data_hash
        self._take(found)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        data_hash: str,
        unit: Unit,
        units: int,
        delta: float | None = None,
        accounting: Accounting = "rdp",
    ) -> Ledger:
        """The ledger at ``path`` of the data set ``data_hash``, begun where there is none.

        Args:
            unit: what epsilon is per.
            units: n, how many of them are trained on.
            delta: None: the ledger's own; where it is begun, 1 / (10 n).

        Raises:
            LedgerError: delta is not below 1/n; or the ledger does not verify, cannot be written, or has another data
                set, unit or delta.
        """
        file = ChainedFile(path, LEDGER)
        with file.writing():
            found = file.read()
            file.mend(found)
            if found.entries:
                ledger = cls(file, found, accounting, data_hash)
                refuse_other_terms(path, (ledger.unit, ledger.delta), (unit, delta))
                refuse_other_data(path, ledger.data_hash, data_hash, units)
                check_delta(ledger.delta, unit, units)
            else:
                delta = 1 / (10 * max(units, 1)) if delta is None else delta
                check_delta(delta, unit, units)
                first = Opened(
                    time=now(),
                    version=__version__,
                    format=FORMAT,
                    data_hash=data_hash,
                    unit=unit,
                    units=units,
                    delta=float(delta),
                )
                file.append(found.chain, first)
                ledger = cls(file, file.read(), accounting, data_hash)
            ledger._say(found)
        return ledger

    @classmethod
    def read(cls, path: Path, accounting: Accounting = "rdp") -> Ledger:
        """The ledger at ``path``, whatever data it is about. Writes nothing; ``mended`` is what opening it would mend.

        Raises:
            LedgerError: there is none, or it does not verify.
        """
        file = ChainedFile(path, LEDGER)
        found = file.read()
        if not found.entries:
            raise LedgerError(f"There is no privacy ledger at '{path}'.")
        ledger = cls(file, found, accounting, None)
        ledger.mended = found.mendings
        return ledger

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All lines, as they were when this object last read or wrote."""
        return tuple(self._entries)

    @property
    def history(self) -> tuple[Spending, ...]:
        """What was spent, line by line."""
        return tuple(self._history)

    @property
    def unit(self) -> Unit:
        return self._opened.unit

    @property
    def delta(self) -> float:
        return self._opened.delta

    @property
    def data_hash(self) -> str:
        return self._data.data_hash

    @property
    def units(self) -> int:
        """n, as it was when the ledger was begun or adopted its data set."""
        return self._data.units

    def epsilon(self, accounting: Accounting | None = None) -> float:
        """Of everything that was spent, per ``unit``, at ``delta``."""
        return epsilon(self._history, self.delta, accounting or self.accounting)

    def planned(self, run: str, *, budget: float | None = None) -> Spending | None:
        """What ``run`` last planned to spend in all of its rounds; None where that was for another ``budget``."""
        plans = [entry for entry in self.entries if isinstance(entry, Planned) and entry.run == run]
        return _spending(plans[-1]) if plans and plans[-1].budget == budget else None

    def plan(self, run: str, spending: Spending, *, budget: float | None = None) -> None:
        """Note what ``run`` means to spend, so that it finds its noise again after a restart. Costs nothing.

        Args:
            budget: the epsilon that its noise was chosen for; None: the noise was given.

        Raises:
            LedgerError: it cannot be written.
        """
        with self._writing():
            if self.planned(run, budget=budget) != spending:
                self._append(Planned(time=now(), version=__version__, run=run, budget=budget, **vars(spending)))

    def spend(self, run: str, round_: int, spending: Spending, *, budget: float) -> float:
        """Pay for steps that have not been trained yet; on the disk when this returns.

        Args:
            budget: the largest epsilon that the whole ledger may come to; infinite for none.

        Returns:
            Epsilon of the whole ledger, these steps included.

        Raises:
            BudgetExceeded: the budget would be passed; nothing was written.
            LedgerError: it cannot be written, or the budget is no positive number.
        """
        if not budget > 0:
            raise LedgerError(
                f"A privacy budget of epsilon={budget} allows nothing. Give a number above 0.",
                public="The site's privacy budget allows nothing.",
            )
        with self._writing():
            before = self.epsilon()
            after = epsilon((*self._history, spending), self.delta, self.accounting)
            if after > budget:
                raise BudgetExceeded(f"Round {round_} is refused", spent=before, asked=after, budget=budget)
            line = Spent(
                time=now(),
                version=__version__,
                run=run,
                round=round_,
                **vars(spending),
                accounting=self.accounting,
                budget=None if math.isinf(budget) else float(budget),
                epsilon_before=before,
                epsilon_after=after,
            )
            self._append(line)
        return after

    def adopt(self, data_hash: str, reason: str, *, units: int | None = None) -> None:
        """Go on with a data set that has changed. Everything spent keeps counting; unit and delta stay.

        Args:
            reason: why it changed, and that its units are the same people's.
            units: n of the new one; None: as before.

        Raises:
            LedgerError: nothing changed, no reason is given, delta is not below 1/n, or it cannot be written.
        """
        if not data_hash.strip() or not reason.strip():
            raise LedgerError("To adopt a data set, give its hash and the reason why it changed.")
        self._about = None
        with self._writing():
            if data_hash == self.data_hash:
                raise LedgerError(f"The privacy ledger '{self.path}' is about that data set already.")
            units = self.units if units is None else units
            check_delta(self.delta, self.unit, units)
            self._append(
                Adopted(time=now(), version=__version__, data_hash=data_hash, units=units, reason=reason.strip())
            )
        self._about = data_hash

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the file's lock, knowing what others have written since."""
        with self._file.writing():
            if not self._file.unchanged(self._chain):
                found = self._file.read()
                self._file.mend(found)
                self._say(found)
                self._take(found)
                if self._about is not None:
                    refuse_other_data(self.path, self.data_hash, self._about)
            yield

    def _append(self, entry: Entry) -> None:
        self._chain = self._file.append(self._chain, entry)
        self._note(entry)

    def _take(self, found: Found[Entry]) -> None:
        """Read what the lines say."""
        openings = [number for number, entry in enumerate(found.entries, start=1) if isinstance(entry, Opened)]
        if openings != [1]:
            raise LedgerError(f"The privacy ledger '{self.path}' does not verify: it must open once, with line 1.")
        self._chain = found.chain
        self._entries = []
        self._history = []
        for entry in found.entries:
            self._note(entry)

    def _note(self, entry: Entry) -> None:
        self._entries.append(entry)
        if isinstance(entry, Opened):
            self._opened = entry
        if isinstance(entry, Opened | Adopted):
            self._data = entry
        if isinstance(entry, Spent):
            self._history.append(_spending(entry))

    def _say(self, found: Found[Entry]) -> None:
        """What was mended goes to the site's log."""
        for sentence in found.mendings:
            _log.warning("Privacy ledger '%s': %s", self.path, sentence)
        self.mended += found.mendings


def _spending(line: Planned | Spent) -> Spending:
    try:
        return Spending(line.noise_multiplier, line.sample_rate, line.steps)
    except ValueError as error:
        raise LedgerError(f"The privacy ledger has a line, of {line.time}, that cannot be: {error}") from None
