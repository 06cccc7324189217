"""ROC curves, on logarithmic axes: what matters is how many are found with almost no false alarm."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing

from simulations.audit.finding import Figure
from simulations.audit.roc import Bools, Floats, auc, roc

# Okabe and Ito's colours, which people with any colour vision tell apart (2008).
_COLOURS = ("#D55E00", "#0072B2", "#009E73")
_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw_roc(curves: Sequence[tuple[str, str, Floats, Bools]]) -> Figure:
    """One curve for each (training, attack, scores [N], members [N])."""
    with rc_context(_STYLE):
        drawing = Drawing(figsize=(5.2, 4.2), layout="constrained")
        FigureCanvasAgg(drawing)
        axes = drawing.add_subplot()
        lowest = min(1 / max(2, int((~members).sum())) for *_, members in curves)
        for colour, (training, attack, scores, members) in zip(_COLOURS, curves, strict=False):
            false, true = roc(scores, members)
            axes.plot(false, true, color=colour, label=f"{training}: {attack}, AUC {auc(scores, members):.3f}")
        axes.plot([lowest, 1], [lowest, 1], color="#999999", linestyle="--", linewidth=0.8, label="guessing")
        axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1))
        axes.set_xlabel("false alarms (share of non-members)")
        axes.set_ylabel("found (share of members)")
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        file = io.BytesIO()
        drawing.savefig(file, format="png", dpi=110)
    return Figure(
        "The best attack on each kind of training, all targets together; both axes logarithmic.", file.getvalue()
    )
