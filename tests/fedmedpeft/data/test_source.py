from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import SOURCES, ImageTable, build_source, canonical_split, describe, index_labels

COLUMNS: dict[str, Any] = {
    "keys": ("x", "y", "z"),
    "labels": np.array([0, 1, 0]),
    "classes": ("a", "b"),
    "splits": ("train", "train", "test"),
    "sites": ("s", "s", "t"),
    "patients": ("1", "1", "2"),
}


def table(**changes: Any) -> ImageTable:
    return ImageTable(**(COLUMNS | changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"keys": (), "labels": np.array([], dtype=np.int64)}, "no images"),
        ({"keys": ("x", "y", "x")}, "'x' appears 2 times"),
        ({"labels": np.array([0, 2, 0])}, "0..2; 2 classes allow 0..1"),
        ({"labels": np.array([0, -1, 0])}, "-1..0"),
        ({"labels": np.array([0, 1])}, "label column has 2 values for 3 images"),
        ({"patients": ("1", "2")}, "patient column has 2 values"),
        ({"classes": ("b", "a")}, "sorted"),
        ({"classes": ("a", "a")}, "differ"),
        ({"splits": ("train", "tset", "test")}, "Did you mean 'test'"),
    ],
)
def test_a_table_that_does_not_hold_together_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=named.replace("(", r"\(")):
        table(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": ("x", "y", "w")},
        {"labels": np.array([0, 1, 1])},
        {"classes": ("a", "c")},
        {"splits": None},
        {"splits": ("train", "val", "test")},
        {"sites": ("s", "t", "t")},
        {"patients": ("1", "2", "2")},
    ],
)
def test_the_hash_is_of_the_content_and_of_every_column(changes: dict[str, Any]) -> None:
    assert table().content_hash() == table(labels=np.array([0, 1, 0], dtype=np.int32)).content_hash()
    assert table(**changes).content_hash() != table().content_hash()


def test_labels_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="read-only"):
        table().labels[0] = 1


def test_the_four_sources_are_registered_and_a_typing_error_is_named() -> None:
    assert SOURCES.names() == ["folder", "manifest", "medmnist", "phantoms"]
    with pytest.raises(ConfigError, match="Did you mean 'phantoms'"):
        build_source("phantom")


def test_common_spellings_of_splits() -> None:
    assert [canonical_split(name) for name in ("Training", " valid", "validation", "TEST", "other")] == [
        "train",
        "val",
        "val",
        "test",
        "other",
    ]


def test_labels_are_numbered_in_the_order_of_the_sorted_names() -> None:
    labels, classes = index_labels(["lung", "heart", "lung"])
    assert classes == ("heart", "lung")
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == np.int64


def test_the_description_counts_what_there_is() -> None:
    assert describe(table(), "here") == "3 images, 2 classes, 2 sites, 2 patients, from here"
    assert describe(table(sites=None, patients=None), "here") == "3 images, 2 classes, from here"
