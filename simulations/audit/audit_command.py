"""What ``fedmedpeft audit`` does: checks first, attacks, writes the page, tells how it ended."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Literal

import typer

from fedmedpeft.config import RunConfig
from simulations.audit.attacks import ATTACKS
from simulations.audit.opening import open_audit
from simulations.audit.report import make_place, write_report
from simulations.preflight import check_components, plan_federation


def audit_command(
    config: RunConfig,
    *,
    site: str | None,
    epsilon: float | None,
    attacks: tuple[str, ...],
    effort: Literal["quick", "full"],
    shadows: int,
    out: Path | None,
    online: bool,
) -> None:
    """Attack ``config`` at one simulated site.

    Raises:
        ConfigError, DataError: something is wrong with what was asked for; nothing was attacked.
        typer.Exit: with 1, an attack contradicts the promised epsilon.
    """
    os.environ["HF_HUB_OFFLINE"] = "0" if online else "1"
    federation = plan_federation(config)
    check_components(federation)
    run = open_audit(federation, site, epsilon, effort, typer.echo, shadows)
    place = make_place(out or Path("audits") / run.site)
    functions = [getattr(import_module(module), name) for module, name in (ATTACKS[key] for key in attacks)]
    findings = [finding for function in functions for finding in function(run)]
    page = write_report(run, findings, place)
    for finding in findings:
        typer.echo(f"{finding.title}\n  {finding.summary}")
    typer.echo(f"Page: {page}")
    if any(finding.broken for finding in findings):
        raise typer.Exit(1)
