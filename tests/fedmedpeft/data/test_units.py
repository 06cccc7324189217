from __future__ import annotations

import numpy as np

from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.units import group_units, straddling


def table(patients: tuple[str, ...] | None, images: tuple[str, ...] | None = None) -> ImageTable:
    labels = np.array([1, 0, 1, 2, 1])
    return ImageTable(("a", "b", "c", "d", "e"), labels, ("x", "y", "z"), patients=patients, images=images)


def test_without_patients_every_image_is_a_unit() -> None:
    units = group_units(table(None))
    assert units.of_row.tolist() == [0, 1, 2, 3, 4]
    assert units.labels.tolist() == [1, 0, 1, 2, 1]
    assert units.sizes.tolist() == [1] * 5
    assert units.kind == "image"


def test_a_patient_has_the_label_of_most_of_its_images() -> None:
    units = group_units(table(("q", "p", "q", "q", "p")))
    assert units.of_row.tolist() == [0, 1, 0, 0, 1]
    assert units.labels.tolist() == [1, 0]  # q: 1, 1, 2; p: 0 and 1, and a tie goes to the lower
    assert units.sizes.tolist() == [3, 2]
    assert units.kind == "patient"


def test_questions_about_one_image_are_one_unit() -> None:
    units = group_units(table(None, images=("q", "p", "q", "q", "p")))
    assert units.of_row.tolist() == [0, 1, 0, 0, 1]
    assert units.sizes.tolist() == [3, 2]
    assert units.kind == "image"


def test_a_patient_keeps_all_of_its_images() -> None:
    units = group_units(table(("q", "p", "q", "q", "p"), images=("1", "2", "1", "3", "4")))
    assert units.of_row.tolist() == [0, 1, 0, 0, 1]
    assert units.kind == "patient"


def test_units_in_two_groups_are_counted() -> None:
    units = group_units(table(("q", "p", "q", "q", "p")))
    assert straddling(units, np.array([0, 1, 0, 0, 1])) == 0
    assert straddling(units, np.array([0, 1, 0, 2, 1])) == 1
    assert straddling(units, np.array([0, 1, 1, 1, 2])) == 2
