"""Plain, fixed-width tables: they read the same in a terminal, in a log and in a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fedmedpeft.tasks import Task
from server.courier import Say
from server.privacy_words import some_names
from server.records import RoundRecord

MEGABYTE = 1e6
_GAINS = {"federated": "gains", "personalised": "personalised_gains"}
_NAME_WIDTH = 20
WITHHELD = "withheld"
"""In place of what a site's policy keeps back."""


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A number for a table; a dash where there is none.

    >>> number(0.5), number(0.5, sign=True), number(float("nan"))
    ('0.500', '+0.500', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:{'+' if sign else ''}.{digits}f}"


class RoundTable:
    """One line per round, as soon as its scores are known."""

    def __init__(self, say: Say, task: Task) -> None:
        self._say, self._task = say, task
        self._started = False
        self._known: set[str] = set()
        """Sites of which it was said that they withhold."""

    def add(self, record: RoundRecord) -> None:
        """Say one row; before the first one, the heading."""
        if not self._started:
            unit, heading = self._task.unit, self._task.heading
            self._say(f"Scores are on the sites' validation {unit}: {heading} is the mean over sites.")
            self._say(self._line("round", "loss", heading, "worst site", "used", "MB up", "MB down", "seconds"))
            self._started = True
        site, value = record.worst(self._task.primary)
        self._say(
            self._line(
                "before" if record.round == 0 else str(record.round),
                number(record.loss),
                number(record.mean(self._task.primary)),
                f"{_short(site)} {number(value)}" if site else "-",
                f"{record.used}/{record.asked}",
                number(record.up / MEGABYTE),
                number(record.down / MEGABYTE),
                number(record.seconds, 1),
            )
        )
        if record.round and record.used == 0:
            self._say(f"       round {record.round} is {record.outcome}")
        if silent := [name for name in record.withheld if name not in self._known]:
            self._known.update(silent)
            self._say(f"       {_kept(silent, 'validation')}")

    @staticmethod
    def _line(*cells: str) -> str:
        widths = (6, 7, 8, _NAME_WIDTH + 6, 6, 9, 9, 8)
        return " ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """The end of a run: test scores per site, what was gained, and what it cost."""
    return [*score_lines(summary), *traffic_lines(summary)]


def score_lines(summary: dict[str, Any]) -> list[str]:
    """The test metric of each model at each site, then mean, worst site and all samples added up."""
    results: dict[str, Any] = summary["results"]
    unit = summary.get("unit", "images")  # Summaries that were written before there were other tasks lack it.
    if not results:
        told = " that tells them" if withholding(summary, "test") else ""
        return [f"No test scores: no site answered{told}."]
    columns, silent = _columns(summary), withholding(summary, "test")
    rows = [["site", unit, *(heading for heading, *_ in columns)]]
    for site in summary["sites"]:
        samples = next((r["sites"][site]["samples"] for r in results.values() if site in r["sites"]), 0)
        count = str(samples) if samples or site not in silent else "-"
        cells = [count, *(number(by_site.get(site), sign=s) for _, s, by_site, _ in columns)]
        rows.append([_short(site), *(WITHHELD if cell == "-" and site in silent else cell for cell in cells)])
    for label, key in (("mean of the sites", "mean"), ("worst site", "worst"), (f"all {unit} together", "union")):
        rows.append([label, "", *(number(overall[key], sign=s) for _, s, _, overall in columns)])
    lines = [f"Test {summary['metric'].replace('_', ' ')}", *_aligned(rows)]
    if silent:
        lines.append(_kept(silent, "test"))
    lines += _secondary_lines(summary, unit)
    if summary.get("local_only_elsewhere") is not None:
        value = number(summary["local_only_elsewhere"])
        lines.append(f"A site's local-only model on every site's test {unit}: {value} on average.")
    if "personalised" in results:
        lines.append(f"personalised took {summary['personalise_steps']} more steps at each site than the others.")
    return [*lines, *summary.get("remarks", [])]


def withholding(summary: dict[str, Any], split: str) -> tuple[str, ...]:
    """Sites whose policy keeps the scores of ``split`` back; none in summaries that were written before sites could."""
    return tuple(site for site, what in summary.get("withheld", {}).items() if split in what)


def _kept(silent: Sequence[str], split: str) -> str:
    """Which sites are in no figure over sites."""
    which = "1 site keeps its" if len(silent) == 1 else f"{len(silent)} sites keep their"
    return f"{which} {split} scores, so that no figure over sites holds them: {some_names(silent)}."


def _secondary_lines(summary: dict[str, Any], unit: str) -> list[str]:
    """Other metrics of all samples together, those that can be had of counts."""
    lines = []
    for metric in summary.get("secondary", []):
        values = {kind: result["union_metrics"].get(metric) for kind, result in summary["results"].items()}
        if any(value is not None for value in values.values()):
            shown = ", ".join(f"{kind} {number(value)}" for kind, value in values.items())
            lines.append(f"{metric.replace('_', ' ').capitalize()} of all {unit} together: {shown}.")
    return lines


_Column = tuple[str, bool, dict[str, float], dict[str, float]]
"""Heading, whether to show signs, values by site, values over all sites."""


def _columns(summary: dict[str, Any]) -> list[_Column]:
    """One column per model; behind what a site gets by taking part, its gain over training alone."""
    results: dict[str, Any] = summary["results"]
    columns: list[_Column] = []
    for kind, result in results.items():
        by_site = {site: scores.get(summary["metric"], math.nan) for site, scores in result["sites"].items()}
        columns.append((kind, False, by_site, result))
        gains = summary[_GAINS[kind]] if kind in _GAINS else {}
        if gains:
            columns.append(("gain", True, gains, summary[f"overall_{_GAINS[kind]}"]))
    return columns


def traffic_lines(summary: dict[str, Any]) -> list[str]:
    """Bytes as measured, against full fine-tuning."""
    traffic = summary["traffic"]
    up, down = number(traffic["up_bytes"] / MEGABYTE), number(traffic["down_bytes"] / MEGABYTE)
    lines = [f"Traffic: {up} MB up and {down} MB down in all, joining and evaluation included."]
    if traffic["times_less"] is not None:
        full = number(traffic["full_fine_tuning_bytes"] / MEGABYTE, 1)
        lines.append(f"Full fine-tuning would have moved {full} MB: this is {traffic['times_less']:.1f} x less.")
    return lines


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def _short(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 2]}.."
