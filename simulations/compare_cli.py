"""``fedmedpeft compare``: methods against each other, under equal conditions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from simulations.study.executor import Resources
    from simulations.study.plan import Plan

_HELP = """
Compare methods: every method, seed and partition of a study is one ordinary run.

The learning rate of each method is chosen on validation images, with the same grid for all. Finished runs are kept:
after Ctrl-C, or with more methods in the file, the same command goes on with what is missing. It leaves results.csv,
sites.csv, table.md, plot.png and plot.svg in the study's directory. The exit code is 1 where a run failed.

Relative paths in the file are relative to the directory in which the command is called, as in any run configuration.

Examples:

  fedmedpeft compare docs/example-study.yaml --dry-run

  fedmedpeft compare study.yaml --out studies/first --parallel 2
"""


def compare(
    study: Annotated[Path, typer.Argument(metavar="STUDY.YAML", help="What to compare; see docs/comparing.md.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The study's directory; else studies/<name>.")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Number of runs at the same time.")] = 1,
    cpus_per_site: Annotated[int, typer.Option(min=1, help="Cores for one site's training.")] = 1,
    gpus_per_site: Annotated[float, typer.Option(min=0.0, help="Share of a GPU for one site's training.")] = 0.0,
    online: Annotated[bool, typer.Option("--online", help="Let a backbone be fetched from the hub.")] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Run without Flower's own processes: the same figures, sooner.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, then show what would be run only.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run again what failed before.")] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write table and plots from the runs that are there.")
    ] = False,
) -> None:
    if dry_run and report_only:
        raise typer.BadParameter("--dry-run writes nothing and --report-only writes the report. Give one of them.")
    os.environ["HF_HUB_OFFLINE"] = "0" if online else "1"
    from simulations.study.executor import Resources
    from simulations.study.plan import make_plan
    from simulations.study.study_file import Study

    wanted = Study.load(study)
    plan = make_plan(wanted)
    directory = (out or Path("studies") / wanted.name).absolute()
    if report_only:
        _refuse_an_empty_report(plan, directory)
    if dry_run:
        from simulations.study.preview import show

        show(plan, directory)
        return
    if not report_only:
        resources = Resources(cpus_per_site, gpus_per_site, online, in_process)
        _run(plan, directory, parallel, resources, retry_failed=retry_failed)
    from simulations.study.report import write_report

    rows = write_report(plan, directory)
    typer.echo((directory / "table.md").read_text(encoding="utf-8"))
    typer.echo(f"Study directory: {directory}")
    failed = sum(row.status == "failed" for row in rows)
    if failed:
        typer.echo(f"{failed} runs failed; table.md says why. --retry-failed runs them again.", err=True)
        raise typer.Exit(1)


compare.__doc__ = _HELP


def _refuse_an_empty_report(plan: Plan, directory: Path) -> None:
    """A report of nothing would replace one of something, where a setting was changed since."""
    from fedmedpeft.components import ConfigError
    from simulations.study.cell_directory import CellDirectory

    if all(CellDirectory(directory, cell).state() == "open" for cell in plan.first()):
        raise ConfigError(
            f"--report-only: '{directory}' has no run of this study as the file is now. Name the study's directory "
            "with --out, give the file the settings that its runs had, or run it first without --report-only."
        )


def _run(plan: Plan, directory: Path, parallel: int, resources: Resources, *, retry_failed: bool) -> None:
    from simulations.stopping import stopped_once
    from simulations.study.executor import ProcessExecutor
    from simulations.study.progress import StudyProgress
    from simulations.study.runner import StudyRunner

    execute = ProcessExecutor(directory, resources)
    message = "Stopping what runs. Finished runs are kept: the same command goes on with the rest ..."
    with stopped_once(message), StudyProgress(plan.runs, parallel) as watch:
        StudyRunner(
            plan=plan,
            out=directory,
            execute=execute,
            watch=watch,
            stop=execute.stop,
            parallel=parallel,
            retry_failed=retry_failed,
        ).run()
