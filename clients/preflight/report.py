"""Findings as a table for people, or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from clients.preflight.check import Finding, Status
from fedmedpeft import __version__
from fedmedpeft.console_table import show_table

_WORDS: dict[Status, str] = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "skip": "skip"}


def as_record(site: str, findings: Sequence[Finding], *, details: bool) -> dict[str, Any]:
    """What ``--json`` prints. Without ``details`` it has no path, no file name and no patient."""
    checks = [
        {
            "name": finding.check.name,
            "outcome": finding.result.status,
            "found": finding.result.text,
            "fix": finding.result.fix,
            "seconds": round(finding.seconds, 3),
            **({"details": list(finding.result.details)} if details else {}),
        }
        for finding in findings
    ]
    return {
        "site": site,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "outcome": outcome(findings),
        "checks": checks,
    }


def outcome(findings: Sequence[Finding]) -> str:
    """``fail`` where any check failed, else ``warn`` where any warned, else ``pass``."""
    found = {finding.result.status for finding in findings}
    return next((status for status in ("fail", "warn") if status in found), "pass")


def show(site: str, findings: Sequence[Finding], *, details: bool) -> None:
    """Print the table, and a line that sums it up."""
    rows = [(finding.check.name, _WORDS[finding.result.status], _found(finding, details)) for finding in findings]
    show_table(f"Preflight of {site}", ("check", "outcome", "found"), rows, numbers_from=3)
    counts = Counter(finding.result.status for finding in findings)
    parts = [f"{counts[status]} {word}" for status, word in _WORDS.items() if counts[status]]
    hidden = not details and any(finding.result.details for finding in findings)
    more = " Paths and names stay out of this report; --details shows them." if hidden else ""
    typer.echo(f"{', '.join(parts)}.{more}")


def _found(finding: Finding, details: bool) -> str:
    result = finding.result
    lines = [result.text]
    if result.fix and result.status != "skip":
        lines.append(f"-> {result.fix}")
    if details:
        lines += [f"   {line}" for line in result.details]
    return "\n".join(lines)
