"""What of a table is one hospital's."""

from __future__ import annotations

import numpy as np
import pytest

from fedmedpeft.data import DataError, build_source
from fedmedpeft.data.own_rows import own_partition, own_rows
from fedmedpeft.data.source import Source


@pytest.fixture(scope="module")
def source() -> Source:
    """Three scanners' phantoms (synthetic)."""
    return build_source("phantoms(images=90, scanners=3, size=32)")


def test_the_rows_of_one_site_keep_their_images(source: Source) -> None:
    sites = source.table.sites
    assert sites is not None
    name = sorted(set(sites))[1]
    own = own_rows(source, site=name)
    rows = [row for row, site in enumerate(sites) if site == name]
    assert own.table.keys == tuple(source.table.keys[row] for row in rows)
    assert set(own.table.sites or ()) == {name}
    np.testing.assert_array_equal(own.table.labels, source.table.labels[rows])
    for mine, theirs in ((0, rows[0]), (len(rows) - 1, rows[-1])):
        np.testing.assert_array_equal(np.asarray(own.image(mine)), np.asarray(source.image(theirs)))
    assert own.synthetic


def test_a_federations_labels_need_not_all_be_here(source: Source) -> None:
    name = sorted(set(source.table.sites or ()))[0]
    classes = sorted([*source.table.classes, "aaa", "zzz"])
    own = own_rows(source, site=name, classes=classes)
    assert own.table.classes == tuple(classes)
    plain = own_rows(source, site=name)
    assert [own.table.classes[label] for label in own.table.labels] == [
        plain.table.classes[label] for label in plain.table.labels
    ]
    partition = own_partition(own, "st-mary", seed=0, val_fraction=0.2, test_fraction=0.2, min_train=1)
    assert partition.sites == ("st-mary",)
    assert sum(len(partition.rows("st-mary", split)) for split in ("train", "val", "test")) == len(own.table)


def test_a_label_of_nobodys_is_refused_without_telling_it_outside(source: Source) -> None:
    name = sorted(set(source.table.sites or ()))[0]
    with pytest.raises(DataError, match="none of the federation's") as refusal:
        own_rows(source, site=name, classes=["something else"])
    assert source.table.classes[0] not in refusal.value.public


def test_data_of_several_sites_needs_one_named(source: Source) -> None:
    with pytest.raises(DataError, match="of 3 sites"):
        own_rows(source)
    with pytest.raises(DataError, match="Did you mean"):
        own_rows(source, site="scaner-00")


def test_no_patient_is_in_two_splits(source: Source) -> None:
    own = own_rows(source, site=sorted(set(source.table.sites or ()))[0])
    partition = own_partition(own, "a", seed=3, val_fraction=0.3, test_fraction=0.3, min_train=1)
    if own.table.patients is None:
        pytest.skip("phantoms have no patients")
    splits = [{own.table.patients[row] for row in partition.rows("a", s)} for s in ("train", "val", "test")]
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]
