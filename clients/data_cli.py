"""``fedmedpeft data``: bring a site's own images into the form that a run reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from fedmedpeft.data.dicom.importing import ImportSettings
    from fedmedpeft.data.dicom.labels import Labels
    from fedmedpeft.data.dicom.report import ImportReport

# The root of the command finds `data` in this module, so there is a level around it.
app = typer.Typer()
data = typer.Typer(no_args_is_help=True, help="Bring a site's own images into the form that a run reads.")
app.add_typer(data, name="data")


@app.callback()
def _level() -> None:
    """Only there so that `data` stays a command of its own."""


@data.callback()
def _group() -> None:
    """Bring a site's own images into the form that a run reads."""


_LABELS, _HOW_MADE, _LEFT_OUT = "Labels (one of three)", "How pictures are made", "What is left out"

_Source = Annotated[Path, typer.Argument(metavar="SRC", help="Folder with DICOM files, at any depth. Only read.")]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder to write: images/, manifest.csv, report.json.")]
_Table = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="CSV with a label for each image, study or patient.", rich_help_panel=_LABELS),
]
_LabelBy = Annotated[
    str,
    typer.Option(
        help="The column that says which images a row is about: sop-instance-uid, study-instance-uid, accession, "
        "patient or file; empty: the one of these that is there.",
        rich_help_panel=_LABELS,
    ),
]
_LabelColumn = Annotated[str, typer.Option(help="The column with the label.", rich_help_panel=_LABELS)]
_Label = Annotated[str, typer.Option(help="One label for all images.", rich_help_panel=_LABELS)]
_LabelTag = Annotated[
    str,
    typer.Option(
        help="A coded tag is the label: Modality, BodyPartExamined, ViewPosition, ImageLaterality or Laterality.",
        rich_help_panel=_LABELS,
    ),
]
_Window = Annotated[
    str,
    typer.Option(
        help="Which values become black and white: first (the file's own), 2 (its second), CENTRE/WIDTH such as "
        "40/400, full (the range of its type), image (of each image alone).",
        rich_help_panel=_HOW_MADE,
    ),
]
_Frames = Annotated[
    str, typer.Option(help="Of several frames: all, middle, or how many, evenly spaced.", rich_help_panel=_HOW_MADE)
]
_BurnedIn = Annotated[
    Literal["skip", "keep-unmarked", "keep"],
    typer.Option(
        help="Text drawn into the picture. skip: leave out what is marked as having some, and unmarked images of "
        "kinds that often have (ultrasound, endoscopy, screen captures). keep-unmarked: leave out what is marked. "
        "A rule of thumb: look at the pictures.",
        rich_help_panel=_LEFT_OUT,
    ),
]
_Localizers = Annotated[
    Literal["skip", "keep"], typer.Option(help="Localiser (scout) images.", rich_help_panel=_LEFT_OUT)
]
_Key = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Key of the names that stand for patients; made at first use. Keep it apart from DIR, and at this site. "
        "Default: DIR.key",
    ),
]
_Details = Annotated[
    bool, typer.Option("--details", help="Also write DIR/skipped.csv: each file left out, by name. Stays at this site.")
]


@data.command("import-dicom")
def import_dicom(
    source: _Source,
    out: _Out,
    labels: _Table = None,
    label_by: _LabelBy = "",
    label_column: _LabelColumn = "label",
    label: _Label = "",
    label_tag: _LabelTag = "",
    window: _Window = "first",
    frames: _Frames = "all",
    burned_in: _BurnedIn = "skip",
    localizers: _Localizers = "skip",
    key: _Key = None,
    details: _Details = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Make pictures and a manifest from DICOM files; names, dates, numbers and all other tags stay behind.

    Example: fedmedpeft data import-dicom /archive/chest --out chest --labels findings.csv

    Nothing leaves this machine, and SRC is not changed. Call it again to take up new files: what is there is kept.
    Patients become keyed hashes, so that a patient's images stay together. Exits with 2 where no image came of it.
    """
    from fedmedpeft.data.dicom.importing import ImportSettings

    settings = ImportSettings(window, frames, burned_in, localizers)
    chosen = _chosen_labels(labels, label_by, label_column, label, label_tag)
    report = _run(source, out, chosen, settings, key, details)
    _show(report, out, as_json)


def _chosen_labels(table: Path | None, by: str, column: str, label: str, tag: str) -> Labels:
    from fedmedpeft.components import ConfigError
    from fedmedpeft.data.dicom.labels import LabelTable, OneLabel, TagLabels

    given = [name for name, value in (("--labels", table), ("--label", label), ("--label-tag", tag)) if value]
    if len(given) != 1:
        raise ConfigError(
            f"{' and '.join(given) or 'No label'} given: expected one of --labels FILE (a table), --label TEXT (the "
            "same for all) and --label-tag TAG. A manifest has a label in each row."
        )
    if table is not None:
        return LabelTable(table.expanduser(), by, column)
    return OneLabel(label) if label else TagLabels(tag)


def _run(
    source: Path, out: Path, labels: Labels, settings: ImportSettings, key: Path | None, details: bool
) -> ImportReport:
    from fedmedpeft.data.dicom.import_folder import import_folder

    with _progress(source) as step:
        return import_folder(source, out, labels, settings, key=key, details=details, step=step)


@contextmanager
def _progress(source: Path) -> Iterator[Callable[[], None]]:
    """A bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fedmedpeft.data.dicom.walk import files_below

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    columns = TextColumn("Importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=sum(1 for _ in files_below(source.expanduser())))
        yield lambda: bar.advance(task)


def _show(report: ImportReport, out: Path, as_json: bool) -> None:
    """The report; an error where no image came of the files."""
    from fedmedpeft.console_table import show_table
    from fedmedpeft.data.errors import DataError

    folder = out.expanduser().resolve()
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        new, kept, skipped = report.imported, report.kept, report.skipped.total()
        typer.echo(f"{report.seen} files: {new} imported, {kept} here already, {skipped} left out.")
        if report.skipped:
            show_table("Left out", ("files", "why"), _counted(report.skipped.most_common()), numbers_from=2)
        if report.notes:
            show_table("To know", ("number", "what"), _counted(report.notes.most_common()), numbers_from=2)
        if report.labels:
            show_table("Pictures", ("label", "number"), [(name, str(n)) for name, n in report.labels.items()])
        if report.unused_labels:
            typer.echo(f"{report.unused_labels} rows of the table of labels are about no image that was found.")
    if not report.images:
        raise DataError(
            f"None of the {report.seen} files below SRC became a picture; '{folder / 'report.json'}' counts why "
            "(--details names each file)."
        )
    if not as_json:
        typer.echo(
            f"{report.images} pictures of {report.patients} patients (at most {report.largest_patient} of one).\n"
            f"In site.yaml, below data: source: manifest(path='{folder / 'manifest.csv'}')"
        )


def _counted(counts: list[tuple[str, int]]) -> list[tuple[str, str]]:
    return [(str(number), what) for what, number in counts]
