"""The audit's page, which opens without a network, and the same numbers as JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import jinja2

from fedmedpeft import __version__
from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError
from simulations.audit.audited import AuditRun
from simulations.audit.finding import Finding

PAGE, NUMBERS = "audit.html", "audit.json"
_OWNER_ONLY = 0o600


def make_place(out: Path) -> Path:
    """The directory of a report, made before hours are spent on what goes into it; its absolute path.

    Raises:
        ConfigError: it cannot be made or written.
    """
    place = out.expanduser().absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out '{place}' cannot be written ({error.strerror}). Name a directory that this user may write."
        ) from None
    return place


def write_report(run: AuditRun, findings: Sequence[Finding], out: Path) -> Path:
    """Write ``audit.html`` and ``audit.json`` into ``out``, for the owner's eyes; the path of the page.

    Raises:
        OSError: the directory cannot be made or written.
    """
    numbers = {
        "version": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "synthetic": run.synthetic,
        "audited": dict(_audited(run)),
        "config": run.config.to_mapping(),
        "findings": [_plain(finding) for finding in findings],
        "notes": list(run.notes),
    }
    write_atomically(out / NUMBERS, json.dumps(numbers, indent=2, allow_nan=False) + "\n", _OWNER_ONLY)
    write_atomically(out / PAGE, _page(run, findings), _OWNER_ONLY)
    return out / PAGE


def _page(run: AuditRun, findings: Sequence[Finding]) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"cell": cell, "inline": _inline}
    template = files("simulations.audit").joinpath("page.html.jinja").read_text(encoding="utf-8")
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = environment.from_string(template).render(
        run=run, audited=_audited(run), findings=findings, version=__version__, made=made
    )
    return text


def _audited(run: AuditRun) -> list[tuple[str, str]]:
    """What was audited, by name."""
    config, privacy, units = run.config, run.privacy, run.units
    facts = [
        ("site", run.site),
        ("training data", f"{len(run.data.train)} rows, {len(run.data.train.images)} images"),
        ("method", config.method),
        ("stays at the site", ", ".join(config.personal_parts) or "nothing"),
        ("task", config.task),
        ("backbone", Path(config.backbone).name),
        ("training", f"{config.rounds} rounds of {config.local_steps} steps, {config.batch_size} rows a step"),
        ("attacked and protected", f"one {units.kind} ({units.count} of them)"),
    ]
    if privacy:
        promise = f"epsilon {privacy.epsilon:.3g} per {privacy.unit} at delta {privacy.delta:.2g}, after all rounds"
        noise = f"noise multiplier {privacy.noise_multiplier:.3g}, clip {privacy.clip:g}"
        facts.append(("with privacy", f"{promise}: {noise}, sample rate {privacy.sample_rate:.3g}"))
    return [*facts, ("effort", run.effort), ("seed", str(run.seed))]


def cell(value: str | float | int) -> str:
    """A number as tables show it.

    >>> [cell(v) for v in (0.12345, 12, 1234.5, float("inf"), float("nan"), "as it is")]
    ['0.123', '12', '1,234', '∞', '-', 'as it is']
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "∞" if value > 0 else "-∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _plain(finding: Finding) -> dict[str, Any]:
    """Without the pictures, which may show patients."""
    return {
        "title": finding.title,
        "summary": finding.summary,
        "columns": list(finding.columns),
        "rows": [[_number(value) for value in row] for row in finding.rows],
        "notes": list(finding.notes),
    }


def _number(value: str | float | int) -> str | float | int | None:
    """JSON has neither nan nor infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
