"""Bytes against balanced accuracy, as PNG and SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from simulations.study.labels import place_labels
from simulations.study.method_summary import MethodSummary, PartitionSummary

# Okabe and Ito's colours, which people with any colour vision tell apart (2008).
_FRONT, _BEHIND, _LINES = "#0072B2", "#D55E00", {"local-only": "#555555", "pooled": "#009E73"}
_DASHES = {"local-only": (0, (5, 3)), "pooled": (0, (1, 1.5))}
_STYLE: Any = {"svg.hashsalt": "fedmedpeft", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw(title: str, summary: PartitionSummary) -> dict[str, bytes]:
    """The picture of one partition by file type. Methods without a result are not in it."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 5.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        shown = [method for method in summary.methods if method.mean.n and math.isfinite(method.bytes_up)]
        _axes(axes, title, shown)
        _references(axes, summary)
        for method in shown:
            _method(axes, method)
        _front(axes, [method for method in shown if method.on_front])
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
        figure.supxlabel(_caption(shown), fontsize=7.5, color="#444444")
        points = [(method.method, method.bytes_up, method.mean.mean) for method in shown]
        others = [(m.bytes_up, value) for m in shown for value in (m.worst.mean, m.mean.low, m.mean.high)]
        place_labels(axes, points, others)
        return {"png": _render(figure, "png"), "svg": _render(figure, "svg")}


def _axes(axes: Axes, title: str, shown: Sequence[MethodSummary]) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xscale("log")
    axes.set_xlabel("bytes that one site sends in one round (log)")
    axes.set_ylabel("test balanced accuracy")
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    if shown:
        costs = [method.bytes_up for method in shown]
        axes.set_xlim(min(costs) / 2, max(costs) * 3)


def _method(axes: Axes, method: MethodSummary) -> None:
    colour, mean = _FRONT if method.on_front else _BEHIND, method.mean
    bars = [[mean.mean - mean.low], [mean.high - mean.mean]]
    label = "on the Pareto front" if method.on_front else "not on the front"
    known = axes.get_legend_handles_labels()[1]
    axes.errorbar(
        [method.bytes_up],
        [mean.mean],
        yerr=bars if mean.n > 1 else None,
        fmt="o" if method.on_front else "s",
        color=colour,
        capsize=3,
        markersize=6,
        zorder=3,
        label=None if label in known else label,
    )
    hollow = None if "worst site" in known else "worst site"
    if method.worst.n:
        axes.plot(
            [method.bytes_up], [method.worst.mean], "v", color=colour, fillstyle="none", markersize=6, label=hollow
        )


def _front(axes: Axes, front: Sequence[MethodSummary]) -> None:
    """From each method to the next that is better, the best that so many bytes buy."""
    if front:
        costs, values = zip(*sorted((method.bytes_up, method.mean.mean) for method in front), strict=True)
        end = axes.get_xlim()[1]
        axes.step([*costs, end], [*values, values[-1]], where="post", color=_FRONT, linewidth=1.0, alpha=0.7, zorder=2)


def _references(axes: Axes, summary: PartitionSummary) -> None:
    """A line across for each, with its name at its right end."""
    shown = sorted((r.mean.mean, kind) for kind, r in summary.references.items() if r.mean.n)
    for rank, (value, kind) in enumerate(shown):
        axes.axhline(value, color=_LINES[kind], linestyle=_DASHES[kind], linewidth=1.2)
        # The names of two lines that are close stand above and below.
        side = "center" if len(shown) == 1 else "bottom" if rank else "top"
        axes.annotate(
            kind,
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va=side,
            color=_LINES[kind],
            fontsize=8,
        )


def _caption(shown: Sequence[MethodSummary]) -> str:
    seeds = sorted({method.mean.n for method in shown})
    count = " or ".join(map(str, seeds)) or "0"
    bars = " Bars: lowest and highest seed." if any(n > 1 for n in seeds) else ""
    return (
        f"Filled: mean over sites, mean of {count} seeds.{bars} Hollow: worst site. "
        "Step line: Pareto front. Lines across: means of references."
    )


def _render(figure: Figure, kind: str) -> bytes:
    # No date: the same results give the same file.
    buffer, metadata = io.BytesIO(), {"Date": None} if kind == "svg" else {}
    figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()
