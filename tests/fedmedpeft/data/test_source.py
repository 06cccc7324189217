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
        ({"labels": np.array([0, 1])}, "label column has 2 values for 3 rows"),
        ({"patients": ("1", "2")}, "patient column has 2 values"),
        ({"classes": ("b", "a")}, "sorted"),
        ({"classes": ("a", "a")}, "differ"),
        ({"splits": ("train", "tset", "test")}, "Did you mean 'test'"),
        ({"texts": ("a", "b")}, "text column has 2 values for 3 rows"),
        ({"answers": ("a", "b")}, "answer column has 2 values"),
        ({"images": ("a", "b")}, "image column has 2 values"),
        ({"answer_types": ("open",)}, "answer type column has 1 values"),
        ({"texts": ("a", " ", "c")}, "text of row 'y' is empty"),
        ({"answers": ("a", "b", "")}, "answer of row 'z' is empty"),
        ({"answer_types": ("open", "close", "open")}, "Did you mean 'closed'"),
        ({"images": ("i", "j", "i")}, "Image 'i' is of two patients, '1' and '2'"),
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
        {"texts": ("a", "b", "c")},
        {"answers": ("a", "b", "c")},
        {"answer_types": ("open",) * 3},
        {"images": ("i", "i", "j")},
        {"splits_share_patients": True},
    ],
)
def test_the_hash_is_of_the_content_and_of_every_column(changes: dict[str, Any]) -> None:
    assert table().content_hash() == table(labels=np.array([0, 1, 0], dtype=np.int32)).content_hash()
    assert table(**changes).content_hash() != table().content_hash()


def test_partitions_made_before_there_were_texts_still_fit() -> None:
    assert table().content_hash() == "0808300ab4906d38e312a4a52117d919dbac4d6c8544721d783902251b059c23"
    phantoms = build_source("phantoms(images=60, scanners=3, size=16, patients=20)").table
    assert phantoms.content_hash() == "bb5848afa1ec2c403c1550e1ad898fdb6e7708666c38ddc3b5a7d2ed4fc9d943"


def test_columns_of_words_do_not_stand_in_for_one_another() -> None:
    words = ("open",) * 3
    hashes = {table(**{name: words}).content_hash() for name in ("texts", "answers", "answer_types")}
    assert len(hashes) == 3


def test_an_empty_question_is_told_without_its_row() -> None:
    with pytest.raises(DataError) as caught:
        table(texts=("a", "", "c"))
    assert caught.value.public == "A question, text or answer is empty."


def test_the_first_row_of_an_image_stands_for_it() -> None:
    assert table().first_rows().tolist() == [0, 1, 2]
    assert table(images=("i", "i", "j")).first_rows().tolist() == [0, 0, 2]


def test_labels_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="read-only"):
        table().labels[0] = 1


def test_the_sources_are_registered_and_a_typing_error_is_named() -> None:
    assert SOURCES.names() == ["folder", "manifest", "medmnist", "phantoms", "slake", "vqa", "vqa-rad"]
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


def test_the_description_tells_questions_and_captions_from_images() -> None:
    asked = table(sites=None, patients=None, images=("i", "i", "j"), texts=("a", "b", "c"))
    assert describe(asked, "here") == "3 texts, 2 images, 2 classes, from here"
    asked = table(sites=None, patients=None, images=("i", "i", "j"), texts=("a", "b", "c"), answers=("d", "e", "f"))
    assert describe(asked, "here") == "3 questions, 2 images, 2 strata, from here"
