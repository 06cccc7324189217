"""Bytes against the test metric, as PNG and SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from fedmedpeft.tasks import Task
from simulations.study.labels import place_labels
from simulations.study.method_summary import MethodSummary, PartitionSummary

# Okabe and Ito's colours, which people with any colour vision tell apart (2008).
_FRONT, _BEHIND, _LINES = "#0072B2", "#D55E00", {"local-only": "#555555", "pooled": "#009E73"}
_DASHES = {"local-only": (0, (5, 3)), "pooled": (0, (1, 1.5))}
_APART = 0.011
"""Least distance of two marks, as a share of the axis: nearer, they would cover each other's bars."""
_STYLE: Any = {"svg.hashsalt": "fedmedpeft", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw(title: str, summary: PartitionSummary, task: Task) -> dict[str, bytes]:
    """The picture of one partition by file type. Methods without a result are not in it."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(9.2, 6.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        shown = [method for method in summary.methods if method.mean.n and math.isfinite(method.bytes_up)]
        _axes(axes, title, shown)
        axes.set_ylabel(f"test {task.primary.replace('_', ' ')}")
        _references(axes, summary)
        places = _places(axes, shown)
        for method in shown:
            _method(axes, method, places[method.method])
        _front(axes, [(places[method.method], method.mean.mean) for method in shown if method.on_front])
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
        figure.supxlabel(_caption(summary, shown), fontsize=7.5, color="#444444")
        points = [(method.method, places[method.method], method.mean.mean) for method in shown]
        place_labels(axes, points, [(places[m.method], value) for m in shown for value in _values(m)])
        return {"png": _render(figure, "png"), "svg": _render(figure, "svg")}


def _axes(axes: Axes, title: str, shown: Sequence[MethodSummary]) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(unit="B"))
    axes.set_xlabel("what one site sends in one round (bytes, log scale)")
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    if shown:
        costs = [method.bytes_up for method in shown]
        axes.set_xlim(min(costs) / 2, max(costs) * 3)


def _places(axes: Axes, shown: Sequence[MethodSummary]) -> dict[str, float]:
    """Where each stands: at its bytes, or beside them, no nearer to the next than ``_APART``."""
    ordered = sorted(shown, key=lambda method: (method.bytes_up, method.mean.mean))
    left, right = map(math.log, axes.get_xlim())
    gap = _APART * (right - left)
    groups: list[list[float]] = []
    for method in ordered:
        groups.append([math.log(method.bytes_up)])
        while len(groups) > 1 and _first(groups[-1], gap) < _first(groups[-2], gap) + gap * len(groups[-2]):
            last = groups.pop()
            groups[-1] += last
    places = [_first(group, gap) + gap * index for group in groups for index in range(len(group))]
    return {method.method: math.exp(place) for method, place in zip(ordered, places, strict=True)}


def _first(group: Sequence[float], gap: float) -> float:
    """Where the first of a group stands that is spread around its mean."""
    return fmean(group) - gap * (len(group) - 1) / 2


def _method(axes: Axes, method: MethodSummary, place: float) -> None:
    colour, mean = _FRONT if method.on_front else _BEHIND, method.mean
    bars = [[mean.mean - mean.low], [mean.high - mean.mean]]
    label = "on the Pareto front" if method.on_front else "not on the front"
    known = axes.get_legend_handles_labels()[1]
    axes.errorbar(
        [place],
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
        ends = [mean.mean, method.worst.mean]
        axes.plot([place, place], ends, linestyle=":", color=colour, linewidth=0.7, alpha=0.6, zorder=1)
        axes.plot([place], ends[1:], "v", color=colour, fillstyle="none", markersize=6, label=hollow)


def _values(method: MethodSummary) -> list[float]:
    """Where its bar and its hollow mark are, for labels to keep clear of."""
    low, high, steps = method.mean.low, method.mean.high, 8
    return [method.worst.mean, *(low + (high - low) * step / steps for step in range(steps + 1))]


def _front(axes: Axes, front: Sequence[tuple[float, float]]) -> None:
    """From each method to the next that is better, the best that so many bytes buy. Place and value of each."""
    if front:
        costs, values = zip(*sorted(front), strict=True)
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


def _caption(summary: PartitionSummary, shown: Sequence[MethodSummary]) -> str:
    seeds = sorted({method.mean.n for method in shown})
    count = " or ".join(map(str, seeds)) or "0"
    first = [f"Filled: mean over sites and over {count} seed{'s' * (seeds != [1])}."]
    first += ["Bars: lowest and highest seed."] if any(n > 1 for n in seeds) else []
    second = ["Step line: Pareto front. Marks of nearly equal bytes stand side by side."]
    kinds = {"local-only": "each site alone", "pooled": "all data in one place"}
    second += [f"{kind}: {what}." for kind, what in kinds.items() if kind in summary.references]
    missing = len(summary.methods) - len(shown)
    second += [f"{missing} of {len(summary.methods)} methods have no result."] if missing else []
    return "\n".join((" ".join([*first, "Hollow, below it: worst site."]), " ".join(second)))


def _render(figure: Figure, kind: str) -> bytes:
    # No date: the same results give the same file.
    buffer, metadata = io.BytesIO(), {"Date": None} if kind == "svg" else {}
    figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()
