from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.splitting import TEST, TRAIN, VAL, check_fractions, split_rows, torn_by_splits
from fedmedpeft.data.units import group_units


def split(table: ImageTable, val: float = 0.2, test: float = 0.2, sites: np.ndarray | None = None) -> np.ndarray:
    site_of = np.zeros(len(table), dtype=np.int64) if sites is None else sites
    rng = np.random.default_rng(0)
    return split_rows(table, group_units(table), site_of, val_fraction=val, test_fraction=test, rng=rng)


def make(
    labels: list[int], splits: tuple[str, ...] | None = None, patients: tuple[str, ...] | None = None
) -> ImageTable:
    keys = tuple(str(row) for row in range(len(labels)))
    return ImageTable(keys, np.array(labels), ("a", "b", "c"), splits=splits, patients=patients)


def test_both_fractions_are_of_the_site_and_of_every_class() -> None:
    table = make([0] * 100 + [1] * 50 + [2] * 10)
    codes = split(table, val=0.1, test=0.3)
    assert np.bincount(codes).tolist() == [96, 16, 48]
    for code, fraction in ((VAL, 0.1), (TEST, 0.3)):
        per_class = np.bincount(table.labels[codes == code], minlength=3)
        assert np.abs(per_class - fraction * np.array([100, 50, 10])).max() <= 1


def test_rows_that_have_a_split_keep_it() -> None:
    splits = ("train",) * 20 + ("val",) * 4 + ("test",) * 6
    assert split(make([0, 1] * 15, splits)).tolist() == [TRAIN] * 20 + [VAL] * 4 + [TEST] * 6


def test_validation_is_carved_out_of_train_where_there_is_none() -> None:
    codes = split(make([0, 1] * 20, ("train",) * 30 + ("test",) * 10), val=0.2, test=0.5)
    assert codes[30:].tolist() == [TEST] * 10
    assert np.bincount(codes[:30]).tolist() == [24, 6]


def test_a_test_split_is_carved_out_where_there_is_none() -> None:
    codes = split(make([0, 1] * 20, ("train",) * 30 + ("val",) * 10), val=0.5, test=0.2)
    assert codes[30:].tolist() == [VAL] * 10
    assert np.bincount(codes[:30], minlength=3).tolist() == [24, 0, 6]


def test_each_site_gets_its_own_splits_and_unused_rows_none() -> None:
    sites = np.array([0] * 20 + [1] * 40 + [-1] * 6)
    codes = split(make([0, 1] * 33), sites=sites)
    assert np.bincount(codes[sites == 0]).tolist() == [12, 4, 4]
    assert np.bincount(codes[sites == 1]).tolist() == [24, 8, 8]
    assert set(codes[sites == -1]) == {-1}


def test_the_last_image_of_a_class_stays_in_train() -> None:
    table = make([0] * 30 + [1] * 2 + [2])
    codes = split(table, val=0.45, test=0.45)
    assert set(table.labels[codes == TRAIN]) == {0, 1, 2}


def test_a_patient_in_two_given_splits_is_an_error_with_the_number() -> None:
    table = make([0] * 6, ("train", "test", "train", "test", "train", "test"), ("p", "p", "q", "q", "r", "s"))
    with pytest.raises(DataError, match="2 of 4 patients are in more than one split"):
        split(table)


def shared(splits: tuple[str, ...], images: tuple[str, ...], share: bool = True) -> ImageTable:
    keys = tuple(str(row) for row in range(len(splits)))
    labels = np.arange(len(splits)) % 3
    return ImageTable(keys, labels, ("a", "b", "c"), splits=splits, images=images, splits_share_patients=share)


def test_a_published_split_may_share_images_where_the_table_says_so() -> None:
    splits, images = ("train",) * 3 + ("test",) * 3, ("i", "i", "j", "i", "j", "k")
    assert split(shared(splits, images), val=0).tolist() == [TRAIN] * 3 + [TEST] * 3
    with pytest.raises(DataError, match=r"2 of 3 images are in more than one split.*drawn by image") as error:
        split(shared(splits, images, share=False))
    assert error.value.public == "The data has images that are in more than one split."


def test_validation_takes_whole_images_and_counts_only_their_training_rows() -> None:
    images = tuple(f"i{row % 20}" for row in range(100))  # of the 5 rows about an image the last 2 are tests
    table = shared(("train",) * 60 + ("test",) * 40, images)
    codes = split(table, val=0.2)
    assert np.bincount(codes, minlength=3).tolist() == [48, 12, 40]
    for image in set(images):
        assert len(set(codes[:60][[name == image for name in images[:60]]])) == 1


def test_only_what_the_table_puts_apart_may_lie_apart() -> None:
    table = shared(("train", "train", "test", "train"), ("i", "i", "i", "j"))
    units = group_units(table)
    assert torn_by_splits(table, units, np.array([TRAIN, TRAIN, TEST, VAL])) == 0
    assert torn_by_splits(table, units, np.array([VAL, VAL, TEST, TRAIN])) == 0
    assert torn_by_splits(table, units, np.array([TRAIN, VAL, TEST, TRAIN])) == 1


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=60),
    patients=st.integers(1, 20),
    val=st.floats(0, 0.45),
    test=st.floats(0, 0.45),
)
def test_shares_are_right_to_one_patient_and_patients_stay_whole(
    labels: list[int], patients: int, val: float, test: float
) -> None:
    names = tuple(f"p{row % patients}" for row in range(len(labels)))
    codes = split(make(labels, patients=names), val=val, test=test)
    assert all(len(set(codes[[n == name for n in names]])) == 1 for name in set(names))
    assert (codes == TRAIN).any()
    largest = max(names.count(name) for name in names)
    assert (codes == TEST).sum() <= test * len(labels) + largest
    assert (codes == VAL).sum() <= val / (1 - test) * len(labels) + largest


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.2), (0.1, 1.0), (0.6, 0.4), (float("nan"), 0.1)])
def test_fractions_that_leave_nothing_are_refused(val: float, test: float) -> None:
    with pytest.raises(ConfigError, match="fraction="):
        check_fractions(val, test)
