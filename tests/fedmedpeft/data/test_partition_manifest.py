from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition import PartitionManifest, make_partition
from fedmedpeft.data.source import ImageTable


@pytest.fixture
def source(plain_source: Callable[..., Any]) -> Any:
    return plain_source(40, 3)


def made(source: Any, spec: str = "iid") -> PartitionManifest:
    return make_partition(source, spec, sites=2, seed=0, val_fraction=0.2, test_fraction=0.2, min_train_per_site=1)


@pytest.mark.parametrize("spec", ["iid", "feature-shift(strength=1)"])
def test_what_is_read_is_what_was_saved_byte_for_byte(tmp_path: Path, source: Any, spec: str) -> None:
    manifest = made(source, spec)
    manifest.save(tmp_path / "new" / "a.json")
    read = PartitionManifest.load(tmp_path / "new" / "a.json")
    read.save(tmp_path / "b.json")
    assert (tmp_path / "new" / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read.hash() == manifest.hash()
    assert np.array_equal(read.site_of, manifest.site_of)
    assert np.array_equal(read.split_of, manifest.split_of)
    assert np.array_equal(read.counts(), manifest.counts())
    assert read.shifts == manifest.shifts
    assert (read.shifts is None) == (spec == "iid")
    read.check(source.table)


def test_the_hash_depends_on_every_row(source: Any) -> None:
    manifest = made(source)
    before = manifest.hash()
    alike = np.flatnonzero(source.table.labels == 0)
    first, second = alike[0], next(row for row in alike if manifest.site_of[row] != manifest.site_of[alike[0]])
    for column in (manifest.site_of, manifest.split_of):  # the two change places: no count changes
        column[[first, second]] = column[[second, first]]
    manifest.check(source.table)
    assert manifest.hash() != before


def test_other_data_is_refused(source: Any, plain_source: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="made for other data: 40 images of 'plain'"):
        made(source).check(plain_source(41, 3).table)


def test_edited_classes_or_counts_are_refused(tmp_path: Path, source: Any) -> None:
    path = tmp_path / "a.json"
    made(source).save(path)
    path.write_text(path.read_text().replace('["a", "b", "c"]', '["a", "b", "d"]'))
    with pytest.raises(DataError, match="was edited"):
        PartitionManifest.load(path).check(source.table)
    manifest = made(source)
    manifest.class_counts[0, 0, :2] += [1, -1]
    with pytest.raises(DataError, match="was edited"):
        manifest.check(source.table)


def test_the_file_names_no_patient_and_no_image(tmp_path: Path, source: Any) -> None:
    patients = tuple(f"MRN-{row // 2}" for row in range(40))
    table = source.table
    source.table = ImageTable(
        tuple(f"jane-doe-{row}.png" for row in range(40)), table.labels, table.classes, patients=patients
    )
    made(source).save(tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    assert "MRN" not in text
    assert "jane" not in text


def test_unknown_names_get_a_suggestion(source: Any) -> None:
    manifest = made(source)
    with pytest.raises(DataError, match=r"no site 'site-9'.*Did you mean 'site-"):
        manifest.rows("site-9", "train")
    with pytest.raises(DataError, match="Did you mean 'train'"):
        manifest.rows("site-0", "trains")


def test_changing_the_counts_handed_out_changes_nothing(source: Any) -> None:
    manifest = made(source)
    manifest.counts()[:] = 0
    assert manifest.counts().sum() == 40
