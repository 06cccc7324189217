from __future__ import annotations

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from simulations.study.labels import _distance, place_labels


def test_a_label_stands_by_its_own_mark() -> None:
    figure = Figure(figsize=(8, 5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlim=(0, 100), ylim=(0, 100))
    points = [("lower", 50.0, 50.0), ("upper", 54.0, 57.0)]
    place_labels(axes, points, [])
    marks = axes.transData.transform([(x, y) for _, x, y in points])
    for text, own, other in zip(("lower", "upper"), marks, marks[::-1], strict=True):
        (box,) = (drawn.get_window_extent() for drawn in axes.texts if drawn.get_text() == text)
        assert _distance(box, own) < _distance(box, other)


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
