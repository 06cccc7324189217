"""The audit log as a person reads it: a row for each line, and sums for each run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clients.audit_log.events import (
    Asked,
    DryRun,
    Event,
    Left,
    Notice,
    Opened,
    PolicyRead,
    Refused,
    Repeated,
    Started,
    Trained,
)
from fedmedpeft.console_table import show_table

_COLUMNS = ("time", "what", "run", "round", "bytes", "epsilon", "outcome")
_DIGITS = 12


@dataclass
class RunTotals:
    """What happened in one run, at this site.

    Attributes:
        asked: requests that came.
        bytes_in: of those.
        trainings: how often it trained.
        answers: that left, the same one once more included.
        bytes_out: of those.
        dry_runs: answers that were written to a file and did not leave.
        refusals: how many, by code.
        epsilon: that the site's data had spent by the run's last answer which tells.
    """

    asked: int = 0
    bytes_in: int = 0
    trainings: int = 0
    answers: int = 0
    bytes_out: int = 0
    dry_runs: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    epsilon: float | None = None

    def add(self, event: Event) -> None:
        match event:
            case Asked():
                self.asked += 1
                self.bytes_in += event.bytes
            case Trained():
                self.trainings += 1
            case Left() | Repeated():
                self.answers += 1
                self.bytes_out += event.bytes
            case DryRun():
                self.dry_runs += 1
            case Refused():
                self.refusals[event.code] = self.refusals.get(event.code, 0) + 1
        if isinstance(event, Left | DryRun) and event.epsilon is not None:
            self.epsilon = event.epsilon


def totals(events: Iterable[Event]) -> dict[str, RunTotals]:
    """By run, in the order in which they first came."""
    found: dict[str, RunTotals] = {}
    for event in events:
        run = run_of(event)
        if run is not None:
            found.setdefault(run, RunTotals()).add(event)
    return found


def run_of(event: Event) -> str | None:
    """The run that it belongs to, '' for a request of none in particular; None: it is about the site."""
    return getattr(event, "run", None)


def show_events(title: str, events: Sequence[Event]) -> None:
    """A row for each."""
    rows = []
    for event in events:
        number = getattr(event, "round", None)
        size = getattr(event, "bytes", None)
        epsilon = getattr(event, "epsilon", None)
        cells = ["" if number is None else str(number), "" if size is None else f"{size:,}"]
        what = event.kind.replace("_", " ")
        rows.append([event.time, what, run_of(event) or "", *cells, _short(epsilon), outcome(event)])
    show_table(title, _COLUMNS, rows, numbers_from=len(_COLUMNS))


def show_totals(found: dict[str, RunTotals]) -> None:
    """A row for each run."""
    columns = ("run", "asked", "bytes in", "trained", "answers", "bytes out", "dry runs", "epsilon", "refused")
    rows = []
    for run, sums in found.items():
        counts = (sums.asked, sums.bytes_in, sums.trainings, sums.answers, sums.bytes_out, sums.dry_runs)
        refused = ", ".join(f"{count} {code}" for code, count in sums.refusals.items())
        rows.append([run or "-", *(f"{count:,}" for count in counts), _short(sums.epsilon), refused or "0"])
    if rows:
        show_table("All of each run", columns, rows)


def outcome(event: Event) -> str:
    """What became of it, in a few words."""
    match event:
        case Opened():
            return f"the log of site '{event.site}' begins"
        case Started():
            return "worker: " + ", ".join(f"{name} {number}" for name, number in event.versions.items())
        case PolicyRead():
            return f"policy {event.policy_hash[:_DIGITS]}"
        case Asked():
            return _said(event.request, norm=event.state_norm, message=event.content_hash)
        case Trained():
            private = f", private per {event.private}" if event.private else ""
            work = f"{event.steps:,} steps on {event.records:,} records in {event.seconds:.1f} s"
            return f"{event.request}: {work}, data {event.data_hash[:_DIGITS]}{private}"
        case Left() | DryRun():
            parts = ", ".join(f"{part} of {count:,} numbers" for part, count in event.parts.items())
            lists = {"scores": event.scores, "withheld": event.withheld}
            names = "".join(f"; {label} {', '.join(names)}" for label, names in lists.items() if names)
            update = {"update norm": event.update_norm} if event.parts else {}
            return _said(f"{event.request}{': ' if parts else ''}{parts}{names}", **update, message=event.content_hash)
        case Repeated():
            return _said(f"{event.request}, as before", message=event.content_hash)
        case Refused():
            return f"{event.request}: {event.code} ({event.stage}): {event.reason}"
        case Notice():
            return f"the server says: {event.words}"
        case _:
            return ""


def _said(text: str, **about: float | str | None) -> str:
    """Text, and what is known about it: numbers, and the first digits of hashes."""
    known = {name: value if isinstance(value, str) else _short(value) for name, value in about.items()}
    return "; ".join([text, *(f"{name} {value[:_DIGITS]}" for name, value in known.items() if value)])


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.5g}"
