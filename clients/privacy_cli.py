"""``fedmedpeft privacy``: what a site's data have spent, what training would cost, and a data set that has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clients import domain_cli

if TYPE_CHECKING:
    from fedmedpeft.privacy.ledger import Ledger

# The root of the command finds `privacy` in this module, so there is a level around it.
app = typer.Typer()
privacy = typer.Typer(no_args_is_help=True, help="See what privacy costs: spent so far, planned, and by which data.")
app.add_typer(privacy, name="privacy")
privacy.add_typer(domain_cli.app)


@app.callback()
def _level() -> None:
    """Only there so that `privacy` stays a command of its own."""


_DOES_NOT_VERIFY = 1
_Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Privacy ledgers, or directories that hold some.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@privacy.command()
def show(
    paths: _Paths,
    lines: Annotated[bool, typer.Option("--lines", help="Every line of each ledger, too.")] = False,
    as_json: _AsJson = False,
) -> None:
    """What has been spent on each data set. Nothing is written, and nothing leaves this machine.

    Example: fedmedpeft privacy show runs --lines

    Epsilon is per unit (record, image or patient) at the ledger's delta, of all runs together: by Renyi DP (rdp) and by
    composition of privacy loss variables (prv, tighter). Both are upper bounds. Exits with 1 where a ledger does not
    verify.
    """
    from clients.privacy_tables import overview, show_overviews
    from fedmedpeft.privacy.ledger import LedgerError

    shown, broken = [], []
    for path in _ledgers(paths):
        try:
            ledger = _read(path)
        except LedgerError as error:
            broken.append(str(error))
            continue
        with _notes():
            shown.append(overview(ledger, lines=lines))
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
    else:
        show_overviews(shown)
    _report(broken)


@privacy.command()
def verify(paths: _Paths) -> None:
    """Check that ledgers are as they were written: no line edited, removed, moved or cut off.

    Example: fedmedpeft privacy verify ledgers/Basel.ledger.jsonl

    Exits with 1 where one is not. Hashes find accidents and edits, not someone who writes a whole ledger anew.
    """
    from fedmedpeft.privacy.ledger import LedgerError

    broken = []
    for path in _ledgers(paths):
        try:
            ledger = _read(path)
        except LedgerError as error:
            broken.append(str(error))
        else:
            typer.echo(f"{path}: {len(ledger.entries)} lines, as they were written.")
    _report(broken)


@privacy.command()
def plan(
    records: Annotated[int | None, typer.Option(min=1, help="Units that are trained on; else the ledger's.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Expected units in a step.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Federated rounds.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Steps in a round.")] = 10,
    epsilon: Annotated[float | None, typer.Option(help="A budget: which noise keeps within it?")] = None,
    noise: Annotated[float | None, typer.Option(help="A noise multiplier: what does it cost?")] = None,
    delta: Annotated[
        float | None, typer.Option(help="Below 1/records; else the ledger's, or 1 / (10 records).")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="record, image or patient; else the ledger's, or record.")] = None,
    ledger: Annotated[Path | None, typer.Option(metavar="PATH", help="What was spent before is counted in.")] = None,
    as_json: _AsJson = False,
) -> None:
    """The noise that a budget takes, or what a noise costs, after 1, 5, 10 and all rounds.

    Example: fedmedpeft privacy plan --epsilon 8 --records 2000 --batch 32 --rounds 20 --steps 10

    With --unit patient, --records and --batch count patients. Nothing is written.
    """
    from clients.privacy_plan import make_plan
    from fedmedpeft.console_table import show_table

    with _notes():
        found = make_plan(
            history=None if ledger is None else _read(_file(ledger)),
            unit=unit,
            units=records,
            batch=batch,
            rounds=rounds,
            steps=steps,
            delta=delta,
            budget=epsilon,
            noise=noise,
        )
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(found), indent=2))
        return
    for line in found.sentences():
        typer.echo(line)
    rows = [[str(cost.rounds), str(cost.steps), f"{cost.rdp:.3f}", f"{cost.prv:.3f}"] for cost in found.costs]
    title = f"Epsilon per {found.unit} at delta {found.delta:.3g}, after"
    show_table(title, ("rounds", "steps", "rdp", "prv"), rows, numbers_from=0)


@privacy.command()
def sites(
    sites: Annotated[int, typer.Option(min=2, help="Sites in each round.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Federated rounds.")] = 20,
    epsilon: Annotated[float, typer.Option(help="For a site that takes part in every round.")] = 8.0,
    delta: Annotated[float, typer.Option(help="Of that epsilon.")] = 1e-5,
    numbers: Annotated[
        int, typer.Option(min=1, help="That a site gives back in a round; `fedmedpeft methods` and `estimate` say.")
    ] = 10_000,
) -> None:
    """What privacy of whole sites (`client-privacy`) costs, and what is left to learn through its noise.

    Example: fedmedpeft privacy sites --sites 5 --rounds 20 --epsilon 8 --numbers 25000
    """
    from fedmedpeft.privacy.client_accounting import plan_client_level, plan_lines

    for line in plan_lines(plan_client_level(sites, rounds, epsilon, delta, numbers)):
        typer.echo(line)


@privacy.command()
def adopt(
    ledger: Annotated[Path, typer.Argument(metavar="LEDGER", help="The ledger whose data set has changed.")],
    data_hash: Annotated[str, typer.Option(metavar="HASH", help="Of the new data set, as the refusal names it.")],
    reason: Annotated[str, typer.Option(help="Why it changed; kept in the ledger.")],
    units: Annotated[int | None, typer.Option(min=1, help="How many units it has; else as many as before.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Carry what was spent over to a data set that has changed: rows added, mended or removed.

    Example: fedmedpeft privacy adopt ledgers/Basel.ledger.jsonl --data-hash 3f9a... --reason 'two scans relabelled'

    Everything that was spent keeps counting, for those who left and those who came alike; unit and delta stay. Other
    people's data need a ledger of their own instead.
    """
    from fedmedpeft.privacy.ledger_identity import check_hash

    check_hash(data_hash)
    found = _read(_file(ledger))
    typer.echo(
        f"The ledger is about {found.data_hash[:12]} and will be about {data_hash[:12]}. Epsilon {found.epsilon():.3f} "
        f"per {found.unit}, at delta {found.delta:g}, keeps counting."
    )
    if not yes:
        typer.confirm("Are they the same people's data?", abort=True)
    found.adopt(data_hash, reason, units=units)
    typer.echo("Adopted.")


def _ledgers(paths: Sequence[Path]) -> list[Path]:
    """The ledgers that are named or lie below what is named, also those of which only the head file is left."""
    from fedmedpeft.components import ConfigError
    from fedmedpeft.privacy.ledger import LEDGER_SUFFIX

    found: dict[Path, None] = {}
    for path in paths:
        below = {file.with_name(file.name.removesuffix(".head")) for file in path.rglob(f"*{LEDGER_SUFFIX}*")}
        named = sorted(file for file in below if file.name.endswith(LEDGER_SUFFIX)) if path.is_dir() else [_file(path)]
        if not named:
            raise ConfigError(f"'{path.absolute()}' holds no privacy ledger: no file named *{LEDGER_SUFFIX}.")
        found |= dict.fromkeys(named)
    return list(found)


def _file(path: Path) -> Path:
    from fedmedpeft.components import ConfigError

    if not path.is_file() and not path.with_name(f"{path.name}.head").is_file():
        raise ConfigError(f"There is no privacy ledger '{path.absolute()}'.")
    return path


def _read(path: Path) -> Ledger:
    from fedmedpeft.privacy.ledger import Ledger

    ledger = Ledger.read(path)
    for sentence in ledger.mended:
        typer.echo(f"Note: {path}: {sentence} The next run puts that right.", err=True)
    return ledger


@contextmanager
def _notes() -> Iterator[None]:
    """Warnings about how epsilon was computed, as sentences, each once."""
    import warnings

    from fedmedpeft.privacy.accountant import AccountingWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AccountingWarning)
        yield
    for sentence in dict.fromkeys(str(warning.message) for warning in caught):
        typer.echo(f"Note: {sentence}", err=True)


def _report(broken: Sequence[str]) -> None:
    """An error line for each ledger that does not verify, and the exit code."""
    for message in broken:
        typer.secho(f"Error: {message}", fg=typer.colors.RED, err=True)
    if broken:
        raise typer.Exit(_DOES_NOT_VERIFY)
