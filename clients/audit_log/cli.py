"""``fedmedpeft audit-log``: what came to this site and what left it, and whether the log is as it was written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clients.audit_log.events import Event
    from fedmedpeft.chained_file import Found

# The root of the command finds `audit-log` in this module, so there is a level around it.
app = typer.Typer()
audit_log = typer.Typer(no_args_is_help=True, help="See what left this site, and check that the log was not changed.")
app.add_typer(audit_log, name="audit-log")


@app.callback()
def _level() -> None:
    """Only there so that `audit-log` stays a command of its own."""


_DOES_NOT_VERIFY = 1
_FEWEST_DIGITS = 16
_Where = Annotated[Path, typer.Argument(metavar="PATH", help="The site's site.yaml, or the log: audit-log.jsonl.")]


@audit_log.command()
def verify(
    path: _Where,
    against: Annotated[
        str | None,
        typer.Option(metavar="HASH", help=f"A last hash from earlier, or its first {_FEWEST_DIGITS} digits or more."),
    ] = None,
) -> None:
    """Check that no line of the audit log was edited, put in, removed, moved or cut off. Nothing is written.

    Example: fedmedpeft audit-log verify site.yaml --against 9f2c41d07ab35e68

    Exits with 1 where one was, and says which. Whoever may write the log could write it anew, with hashes that fit:
    keep the last hash where they cannot write (on paper, in a ticket) and give it with --against next time.
    """
    from clients.audit_log.audit_log import AuditLogError, read_log

    if against is not None:
        _check_digits(against)
    log = _log_at(path)
    try:
        found = read_log(log)
        since = "" if against is None else _line_of(log, found, against)
    except AuditLogError as error:
        typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
        raise typer.Exit(_DOES_NOT_VERIFY) from None
    _notes(log, found)
    typer.echo(f"{log}: {found.chain.lines:,} lines, as they were written.")
    typer.echo(f"First line  {found.entries[0].time}")
    typer.echo(f"Last line   {found.entries[-1].time}")
    typer.echo(f"Last hash   {found.chain.last}")
    typer.echo(since or "Write the last hash down elsewhere; next time: --against HASH.")


@audit_log.command()
def show(
    path: _Where,
    run: Annotated[str | None, typer.Option(help="Only what belongs to this run.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many lines, the latest; sums are of all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with every field.")] = False,
) -> None:
    """What came, what was trained on, what left (bytes, norms, epsilon) and what was refused, as a table.

    Example: fedmedpeft audit-log show site.yaml --run lora-20261122 --last 30

    Nothing is written, and nothing leaves this machine. Exits with 1 where the log does not verify.
    """
    from dataclasses import asdict

    from clients.audit_log.audit_log import read_log
    from clients.audit_log.tables import run_of, show_events, show_totals, totals

    log = _log_at(path)
    found = read_log(log)
    _notes(log, found)
    events = [event for event in found.entries if run is None or run_of(event) == run]
    if run is not None and not events:
        _no_such_run(run, found)
    shown, sums = events[-last:] if last else events, totals(events)
    if as_json:
        runs = {name: asdict(of_run) for name, of_run in sums.items()}
        typer.echo(json.dumps({"lines": [event.model_dump() for event in shown], "runs": runs}, indent=2))
        return
    show_events(f"{log}: {len(shown):,} of {found.chain.lines:,} lines", shown)
    show_totals(sums)


def _log_at(path: Path) -> Path:
    """The log that is named, or that a site file names."""
    from clients.site_file import SiteFile
    from fedmedpeft.components import ConfigError

    log = SiteFile.load(path).audit_log if path.suffix in (".yaml", ".yml") else path
    if log.is_dir():
        raise ConfigError(f"'{log.absolute()}' is a directory. Name the site's site.yaml, or its audit-log.jsonl.")
    if not log.is_file() and not log.with_name(f"{log.name}.head").is_file():
        raise ConfigError(f"There is no audit log '{log.absolute()}'; it begins when the site worker first starts.")
    return log


def _check_digits(text: str) -> None:
    """Raises ConfigError."""
    from fedmedpeft.components import ConfigError

    if not re.fullmatch(f"[0-9a-f]{{{_FEWEST_DIGITS},64}}", text):
        raise ConfigError(
            f"--against '{text}' is no hash of a line: give its {_FEWEST_DIGITS} to 64 first digits of 0-9 and a-f, "
            "as an earlier `fedmedpeft audit-log verify` printed it."
        )


def _line_of(log: Path, found: Found[Event], against: str) -> str:
    """That the log still has the line which was its last when ``against`` was written down. Raises AuditLogError."""
    from clients.audit_log.audit_log import BOOK

    for number, own in enumerate(found.hashes, start=1):
        if own.startswith(against):
            time = found.entries[number - 1].time
            return f"The hash of --against is that of line {number:,}, of {time}: up to there nothing was changed."
    raise BOOK.broken(
        log,
        f"None of its {found.chain.lines:,} lines has the hash {against}: it was cut off or written anew since that "
        "hash was written down, or the hash is another log's.",
    )


def _no_such_run(run: str, found: Found[Event]) -> None:
    """Raises ConfigError."""
    from clients.audit_log.tables import totals
    from fedmedpeft.components import ConfigError, suggest

    runs = [name for name in totals(found.entries) if name]
    raise ConfigError(f"The audit log has no run '{run}'.{suggest(run, runs)} It has: {', '.join(runs) or 'none'}.")


def _notes(log: Path, found: Found[Event]) -> None:
    for sentence in found.mendings:
        typer.echo(f"Note: {log}: {sentence} The worker's next start puts that right.", err=True)
