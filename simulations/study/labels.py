"""Labels beside their points, where there is room."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_DIRECTIONS = ((1, 1), (1, -1), (1, 0), (0, 1), (0, -1), (-1, 0), (-1, 1), (-1, -1))
_NEAR = 7
"""In points; a label further from its mark gets a line to it."""
_PLACES = [(x * far, y * far) for far in (_NEAR, 14, 22, 32, 44, 58) for x, y in _DIRECTIONS]
"""Best first."""
_MARK = 5.0
"""Half the width of a mark, in pixels."""
_ASTRAY = 20.0
"""What it costs to stand nearer to another mark than to one's own, as covered square pixels."""


def place_labels(
    axes: Axes, points: Sequence[tuple[str, float, float]], other_marks: Sequence[tuple[float, float]]
) -> None:
    """Write each point's text at the first place near it that covers no mark and no other label.

    Args:
        points: text, x and y in data coordinates.
        other_marks: x and y of what must not be covered either.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    own = [tuple(axes.transData.transform((x, y))) for _, x, y in points]
    taken = [_around(x, y) for x, y in (*own, *(axes.transData.transform(mark) for mark in other_marks))]
    room = axes.get_window_extent()
    for mark, (text, x, y) in zip(own, points, strict=True):
        annotation = axes.annotate(text, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=8, zorder=4)
        annotation.set_bbox({"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5})
        place, box = min(
            ((place, _move(annotation, place)) for place in _PLACES),
            key=lambda tried: (
                _outside(tried[1], room)
                + sum(_overlap(tried[1], other) for other in taken)
                + _ASTRAY * any(_distance(tried[1], other) < _distance(tried[1], mark) for other in own)
            ),
        )
        _move(annotation, place)
        taken.append(box)
        if max(map(abs, place)) > _NEAR:
            line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6}
            axes.annotate("", (x, y), xytext=place, textcoords="offset points", arrowprops=line, zorder=5)


def _move(annotation: Annotation, place: tuple[int, int]) -> Bbox:
    """Put the text where ``place`` says, in points from its mark; the room it takes there, in pixels."""
    right, up = (int(np.sign(coordinate)) for coordinate in place)
    annotation.set(ha=("right", "center", "left")[right + 1], va=("top", "center", "bottom")[up + 1])
    annotation.xyann = place
    return annotation.get_window_extent()


def _around(x: float, y: float) -> Bbox:
    return Bbox.from_extents(x - _MARK, y - _MARK, x + _MARK, y + _MARK)


def _overlap(one: Bbox, other: Bbox) -> float:
    """Area in common, in square pixels."""
    width: float = min(one.x1, other.x1) - max(one.x0, other.x0)
    height: float = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, width) * max(0.0, height)


def _distance(box: Bbox, mark: tuple[float, ...]) -> float:
    """From the nearest point of ``box``, in pixels."""
    return math.hypot(max(box.x0 - mark[0], 0.0, mark[0] - box.x1), max(box.y0 - mark[1], 0.0, mark[1] - box.y1))


def _outside(box: Bbox, room: Bbox) -> float:
    area: float = box.width * box.height
    return area - _overlap(box, room)
