"""The partition file: its fields, its checks and its text. JSON with one line per list of rows, small in a diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedmedpeft.data.errors import DataError
from fedmedpeft.data.photometry import Photometry
from fedmedpeft.data.source import SPLITS


class SiteRecord(BaseModel):
    """One site: row numbers by split, and images by split and class."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1)
    shift: Photometry | None
    counts: dict[str, list[int]]
    train: list[int]
    val: list[int]
    test: list[int]


class PartitionRecord(BaseModel):
    """A whole partition. Rows that no site lists are unused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1] = Field(alias="schema")
    source: str
    source_hash: str
    partitioner: str
    seed: int
    rows: int = Field(ge=1, le=10**9)
    classes: list[str] = Field(min_length=1)
    sites: list[SiteRecord] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [site.name for site in self.sites]
        if len(set(names)) != len(names):
            raise ValueError("a site name appears twice")
        if len({site.shift is None for site in self.sites}) > 1:
            raise ValueError("some sites have a shift and others none")
        return self

    @model_validator(mode="after")
    def _rows_once(self) -> Self:
        listed = np.array([row for site in self.sites for row in (*site.train, *site.val, *site.test)], dtype=np.int64)
        if len(listed) and (listed.min() < 0 or listed.max() >= self.rows):
            raise ValueError(f"row numbers must be in 0..{self.rows - 1}, found {listed.min()}..{listed.max()}")
        if len(np.unique(listed)) != len(listed):
            raise ValueError("a row is listed more than once")
        return self

    @model_validator(mode="after")
    def _counts_add_up(self) -> Self:
        for site in self.sites:
            sizes = {"train": len(site.train), "val": len(site.val), "test": len(site.test)}
            if {split: sum(counts) for split, counts in site.counts.items()} != sizes:
                raise ValueError(f"the counts of site '{site.name}' do not add up to the rows it lists")
            if any(len(counts) != len(self.classes) or min(counts) < 0 for counts in site.counts.values()):
                raise ValueError(f"the counts of site '{site.name}' are not {len(self.classes)} numbers from 0 up")
        return self


def render(record: PartitionRecord) -> str:
    """The file's text; equal records give equal text."""
    fields = record.model_dump(mode="json", by_alias=True)
    sites = ",\n".join(_object(site, indent="    ") for site in fields.pop("sites"))
    head = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in fields.items())
    return f'{{\n{head}  "sites": [\n{sites}\n  ]\n}}\n'


def read(path: Path) -> PartitionRecord:
    """Read and check a partition file.

    Raises:
        DataError: it cannot be read, or is not a sound partition of this schema; the message says where.
    """
    try:
        return PartitionRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"Partition file '{path}' cannot be read ({error}).") from error
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in found["loc"])
        message = found["msg"].removeprefix("Value error, ")
        raise DataError(f"Partition file '{path}': {f'{where}: ' if where else ''}{message}. Make it again.") from None


def by_split(site: SiteRecord) -> list[list[int]]:
    """The site's rows in the order of ``SPLITS``."""
    return [getattr(site, split) for split in SPLITS]


def _object(fields: dict[str, Any], indent: str) -> str:
    body = ",\n".join(f"{indent}  {json.dumps(key)}: {json.dumps(value)}" for key, value in fields.items())
    return f"{indent}{{\n{body}\n{indent}}}"
