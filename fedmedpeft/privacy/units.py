"""What differential privacy protects one of: a record, an image with all that is asked about it, or a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from fedmedpeft.components import ConfigError
from fedmedpeft.data.split import Split

Unit = Literal["record", "image", "patient"]
UNITS: tuple[Unit, ...] = get_args(Unit)
"""From the smallest to the largest."""


@dataclass(frozen=True, eq=False)
class Units:
    """The units of a split.

    Attributes:
        kind: what one is; what epsilon is per.
        of_row: int64 [N], the unit of each row, from 0.
        count: U, how many there are.
    """

    kind: Unit
    of_row: torch.Tensor
    count: int


def largest_unit(split: Split) -> Unit:
    """The patient where the data says who that is; the image where several rows are about one; else the record."""
    if split.patient_of is not None:
        return "patient"
    return "image" if len(split.images) < len(split) else "record"


def units_of(split: Split, unit: Unit) -> Units:
    """Group the rows of ``split``.

    Raises:
        ConfigError: patients are asked for, and the data does not name them.
    """
    if unit == "patient" and split.patient_of is None:
        raise ConfigError("unit='patient' needs data with a patient column. Add one, or set unit='image' or 'record'.")
    owner = {"record": torch.arange(len(split)), "image": split.image_of, "patient": split.patient_of}[unit]
    found, of_row = torch.unique(owner, return_inverse=True)
    return Units(unit, of_row, len(found))
