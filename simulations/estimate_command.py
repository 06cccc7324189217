"""What ``fedmedpeft estimate`` shows."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

import typer

from fedmedpeft.config import RunConfig
from fedmedpeft.console_table import show_table
from simulations.preflight import plan_federation


def estimate_command(config: RunConfig, *, online: bool, as_json: bool) -> None:
    """Print the estimate. Raises ConfigError and DataError as the plan does."""
    os.environ["HF_HUB_OFFLINE"] = "0" if online else "1"
    federation = plan_federation(config)
    from simulations.estimate import Estimate, estimate

    found: Estimate = estimate(federation)
    if as_json:
        content = asdict(found) | {"total": asdict(found.total), "times_less": found.times_less}
        typer.echo(json.dumps(content, indent=2))
        return
    rows = [(phase, _megabytes(t.down), _megabytes(t.up), str(t.states)) for phase, t in found.phases.items()]
    if found.rounds:
        each = found.phases["rounds"]
        mean = (_megabytes(each.down // found.rounds), _megabytes(each.up // found.rounds), "")
        rows.append((f"each of {found.rounds} rounds", *mean))
    rows.append(("total", _megabytes(found.total.down), _megabytes(found.total.up), str(found.total.states)))
    title = (
        f"{config.method} on {config.backbone}, {found.sites} sites: a PEFT state has {found.payload:,} bytes of values"
    )
    if found.round_payload < found.payload:
        title += f", of which a site gives back {found.round_payload:,} in a round"
    show_table(title, ("phase", "MB down", "MB up", "states"), rows)
    if found.full_bytes:
        full = _megabytes(found.full_bytes)
        typer.echo(f"Full fine-tuning would move {full} MB: this is {found.times_less:,.1f} x less.")


def _megabytes(count: int) -> str:
    """Bytes in MB (10^6).

    >>> _megabytes(1_234_567)
    '1.235'
    """
    return f"{count / 1e6:,.3f}"
