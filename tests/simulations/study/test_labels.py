from __future__ import annotations

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from simulations.study.labels import place_labels


def test_labels_of_crowded_points_cover_neither_each_other_nor_a_mark() -> None:
    figure = Figure(figsize=(8, 5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_xlim(1e3, 1e7)
    axes.set_ylim(0.5, 0.9)
    points = [(f"method-{i}", 1e5 * (1 + i / 10), 0.7 + i / 500) for i in range(6)]
    place_labels(axes, points, [(1e5, 0.65)])
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 6
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    marks = axes.transData.transform([(x, y) for _, x, y in points])
    assert not any(box.contains(*mark) for box in boxes for mark in marks)
    assert all(axes.get_window_extent().contains(*corner) for box in boxes for corner in box.corners())
