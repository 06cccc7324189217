"""``fedmedpeft runs``: what runs have left behind."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True)
runs = typer.Typer(no_args_is_help=True, help="List the runs below a directory, or show one of them.")
app.add_typer(runs, name="runs")

_RunsDir = Annotated[Path, typer.Option("--runs-dir", metavar="DIR", help="Where runs were written.")]
_AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
_DIRECTORY = Path("runs")


@runs.command("list")
def list_runs(runs_dir: _RunsDir = _DIRECTORY, as_json: _AsJson = False) -> None:
    """One line per run: method, data, rounds, test score, gain over training alone, and traffic.

    Example: fedmedpeft runs list --runs-dir runs
    """
    found = [_overview(path) for path in _run_directories(runs_dir)]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    columns = ("name", "method", "data", "metric", "rounds", "mean", "worst", "gain", "MB")
    rows = [
        [*(str(run[key]) for key in columns[:5]), *(_number(run[key], sign=key == "gain") for key in columns[5:])]
        for run in found
    ]
    _table("Test scores (mean of the sites, worst site), gain over training alone", columns, rows, text=4)
    for run in found:
        if not run["completed"]:
            typer.echo(f"{run['name']}: {run['state'].removesuffix('.')}. See: fedmedpeft runs show {run['name']}")


@runs.command("show")
def show_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or its directory.")],
    runs_dir: _RunsDir = _DIRECTORY,
    as_json: _AsJson = False,
) -> None:
    """Rounds and sites of one run; with --json its summary, or how far it is.

    Example: fedmedpeft runs show lora-phantoms-20260102-030405
    """
    path = _find(run, runs_dir)
    summary = _summary(path)
    if as_json:
        typer.echo(json.dumps(summary or _unfinished(path), indent=2))
        return
    rounds = _rows(path / "rounds.csv")
    scores = [column for column in (rounds[0] if rounds else {}) if column.startswith("val_")]
    columns = ("round", "outcome", *scores, "worst_site", "bytes_up", "bytes_down")
    shown = [[_short(row.get(column, "")) for column in columns] for row in rounds]
    _table(f"Rounds of {path.name}", [column.replace("_", " ") for column in columns], shown, text=2)
    if not summary:
        _say_how_to_go_on(path)
        return
    from server.data_words import synthetic_sites, synthetic_warning
    from server.tables import summary_lines

    for line in summary_lines(summary):
        typer.echo(line)
    if warning := synthetic_warning(list(summary["sites"]), synthetic_sites(summary)):
        typer.echo(warning)


def _say_how_to_go_on(path: Path) -> None:
    """A run that has no result: how far it is, and with what it goes on."""
    from server.data_words import EACH_ITS_OWN, UNKNOWN, data_of_run
    from server.run_state import RESUME_FILE, state_of_run

    state, file = state_of_run(path), path / RESUME_FILE
    more = " sites.csv says what each site did." if (path / "sites.csv").is_file() else ""
    typer.echo(f"The run has not come to its end: {state.removesuffix('.')}.{more}")
    if state == "running" or not file.is_file():
        return
    data = data_of_run(_configuration(path))
    if data in (EACH_ITS_OWN, UNKNOWN):
        typer.echo(f"At hospitals, go on with:   fedmedpeft server submit '{file}' --kit KIT")
    if data != EACH_ITS_OWN:
        typer.echo(f"In simulation, go on with:  fedmedpeft run --config '{file}'")


def _unfinished(path: Path) -> dict[str, str]:
    from server.run_state import state_of_run

    return {"run": path.name, "state": state_of_run(path)}


def _run_directories(runs_dir: Path) -> list[Path]:
    """The runs below ``runs_dir``, oldest first. Raises ConfigError where there is no such directory."""
    from fedmedpeft.components import ConfigError

    if not runs_dir.is_dir():
        raise ConfigError(f"There is no directory '{runs_dir.absolute()}'. Name it with --runs-dir.")
    return sorted((path.parent for path in runs_dir.glob("*/config.toml")), key=lambda path: path.stat().st_mtime)


def _find(run: str, runs_dir: Path) -> Path:
    from fedmedpeft.components import ConfigError, suggest

    for path in (Path(run), runs_dir / run):
        if (path / "config.toml").is_file():
            return path.absolute()
    names = [path.name for path in _run_directories(runs_dir)]
    raise ConfigError(f"There is no run '{run}' in '{runs_dir.absolute()}'.{suggest(run, names)}")


def _overview(path: Path) -> dict[str, Any]:
    from server.data_words import data_of_run
    from server.run_state import state_of_run

    content, summary = _configuration(path), _summary(path)
    config = content["config"]
    results: dict[str, Any] = summary.get("results", {})
    best = results.get("federated") or results.get(config["mode"]) or {}
    gains = [gain for gain in summary.get("gains", {}).values() if gain is not None]
    traffic = summary.get("traffic", {})
    return {
        "name": path.name,
        "method": config["method"],
        "data": data_of_run(content),
        "metric": summary.get("metric", "-").replace("_", " "),
        "rounds": config["rounds"],
        "completed": bool(summary),
        "state": state_of_run(path),
        "mean": best.get("mean"),
        "worst": best.get("worst"),
        "gain": sum(gains) / len(gains) if gains else None,
        "MB": (traffic["down_bytes"] + traffic["up_bytes"]) / 1e6 if traffic else None,
    }


def _configuration(path: Path) -> dict[str, Any]:
    """Of ``config.toml`` the tables ``config`` and ``federation``; the latter is None where no site has joined."""
    import tomllib

    from fedmedpeft.components import ConfigError

    try:
        content = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
        return {"config": dict(content["config"]), "federation": content.get("federation")}
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"'{path / 'config.toml'}' is damaged ({error}). Move the run out of the way.") from None


def _summary(path: Path) -> dict[str, Any]:
    """``summary.json``; empty for a run that did not come to its end."""
    from fedmedpeft.components import ConfigError

    try:
        content = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"'{path / 'summary.json'}' is damaged ({error}). Move the run out of the way.") from None
    return dict(content)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:+.3f}" if sign else f"{value:.3f}"


def _short(cell: str) -> str:
    """Fewer digits of a fraction; anything else as it is."""
    try:
        return f"{float(cell):.4f}" if "." in cell else cell
    except ValueError:
        return cell


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: int) -> None:
    """Plain columns: the first ``text`` to the left, the others to the right."""
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    typer.echo(title)
    aligns = [str.ljust if index < text else str.rjust for index in range(len(columns))]
    for row in (columns, *rows):
        cells = [align(cell, width) for align, cell, width in zip(aligns, row, widths, strict=True)]
        typer.echo("  " + "  ".join(cells).rstrip())
