from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.fedmedpeft.data.loaded import load, split_up


def test_the_same_training_data_has_the_same_hash_at_any_size(plain_source: Callable[..., Any]) -> None:
    source = plain_source(60, 3)
    manifest = split_up(source)
    hashes = {load(source, manifest, "site-0", size=size).train_hash for size in (2, 4)}
    assert len(hashes) == 1
    assert load(source, manifest, "site-1").train_hash not in hashes


@pytest.mark.parametrize("column", ["patients", "texts", "answers"])
def test_whatever_a_training_row_says_is_in_its_hash(plain_source: Callable[..., Any], column: str) -> None:
    said = {"texts": tuple(f"t{row}" for row in range(60))} if column == "answers" else {}
    words = [f"w{row}" for row in range(60)]
    manifest = split_up(plain_source(60, 3))
    row = int(manifest.rows("site-0", "train")[0])
    changed = [*words[:row], "other", *words[row + 1 :]]
    hashes = []
    for column_words in (words, changed):
        source = plain_source(60, 3, **{**said, column: tuple(column_words)})
        partition = split_up(source)
        site = load(source, partition, "site-0")
        hashes.append((site.train.rows.tolist(), site.train_hash))
    assert hashes[0][0] == hashes[1][0]
    assert hashes[0][1] != hashes[1][1]


def test_patients_are_numbers_that_say_nothing(plain_source: Callable[..., Any]) -> None:
    patients = tuple(f"name {row // 2}" for row in range(60))
    source = plain_source(60, 3, patients=patients)
    train = load(source, split_up(source)).train
    assert train.patient_of is not None
    names = [patients[row] for row in train.rows]
    assert len({(number, name) for number, name in zip(train.patient_of.tolist(), names, strict=True)}) == len(
        set(names)
    )
    assert load(plain_source(60, 3), split_up(plain_source(60, 3))).train.patient_of is None
