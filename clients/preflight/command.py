"""``fedmedpeft site check``: all checks, a report, an exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer
from rich.console import Console

from clients.preflight.check import Check, run_checks
from clients.preflight.checklist import checklist
from clients.preflight.facts import Facts
from clients.preflight.report import as_record, outcome, show

FAILED = 1


def check_command(
    path: Path,
    as_json: bool = False,
    run_config: Path | None = None,
    *,
    thorough: bool = False,
    details: bool = False,
) -> None:
    """Check a site, print what was found. Nothing is trained, and nothing is sent but probes to the server.

    Args:
        path: of ``site.yaml``.
        run_config: the configuration that the coordinator has announced.
        thorough: decode all images rather than a sample.
        details: show paths, file names and patients, too; such a report stays at the site.

    Raises:
        typer.Exit: code 1, where a check failed.
    """
    facts = Facts(path, run_config, thorough)
    with Console(stderr=True).status("checking") as status:

        def started(check: Check) -> None:
            status.update(f"checking: {check.title}")

        findings = run_checks(checklist(), facts, started)
    site = facts.site.site if hasattr(facts, "site") else ""
    if as_json:
        json.dump(as_record(site, findings, details=details), sys.stdout, indent=2)
        typer.echo()
    else:
        show(site or "this site", findings, details=details)
    if outcome(findings) == "fail":
        raise typer.Exit(FAILED)
