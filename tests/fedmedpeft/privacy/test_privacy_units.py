from __future__ import annotations

import numpy as np
import pytest
import torch

from fedmedpeft.components import ConfigError
from fedmedpeft.data.split import Split, join
from fedmedpeft.privacy.units import largest_unit, units_of


def _split(image_of: list[int], patient_of: list[int] | None = None) -> Split:
    images = torch.zeros(max(image_of) + 1, 3, 2, 2, dtype=torch.uint8)
    return Split(
        images,
        torch.zeros(len(image_of), dtype=torch.int64),
        np.arange(len(image_of)),
        torch.tensor(image_of),
        patient_of=None if patient_of is None else torch.tensor(patient_of),
    )


def test_the_largest_unit_that_the_data_knows() -> None:
    assert largest_unit(_split([0, 1, 2])) == "record"
    assert largest_unit(_split([0, 0, 1])) == "image"
    assert largest_unit(_split([0, 1, 2], [4, 4, 9])) == "patient"


@pytest.mark.parametrize(
    ("unit", "of_row", "count"), [("record", [0, 1, 2, 3], 4), ("image", [0, 0, 1, 2], 3), ("patient", [1, 1, 0, 1], 2)]
)
def test_rows_by_unit(unit: str, of_row: list[int], count: int) -> None:
    units = units_of(_split([0, 0, 1, 2], [7, 7, 3, 7]), unit)  # type: ignore[arg-type]
    assert (units.kind, units.of_row.tolist(), units.count) == (unit, of_row, count)


def test_patients_that_nobody_named() -> None:
    with pytest.raises(ConfigError, match="patient column"):
        units_of(_split([0, 1]), "patient")


def test_pooled_patients_stay_apart() -> None:
    pooled = join([_split([0, 1], [0, 0]), _split([0, 1], [0, 1])])
    assert units_of(pooled, "patient").count == 3
