from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedpeft.components import ConfigError, Registry
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition import PARTITIONERS, Assignment, Partitioner, PartitionManifest, make_partition
from fedmedpeft.data.partitioners.base import DrawnOnce
from fedmedpeft.data.source import SPLITS, ImageTable, build_source

SPECS = (
    "iid",
    "dirichlet(alpha=0.3)",
    "pathological(classes_per_site=2)",
    "quantity(alpha=0.5)",
    "feature-shift",
    "natural",
)
# No deadline: other work on the machine must not fail a test.
properties = settings(max_examples=40, deadline=None)
DEFAULTS: dict[str, Any] = {"sites": 3, "seed": 0, "val_fraction": 0.2, "test_fraction": 0.2, "min_train_per_site": 0}


class TableOnly:
    """A source of which only the table is asked for."""

    name, synthetic, description = "table", True, "no images"

    def __init__(self, table: ImageTable) -> None:
        self.table = table

    def image(self, row: int) -> Any:
        raise AssertionError("a partition needs no pixels")


@st.composite
def tables(draw: st.DrawFn) -> ImageTable:
    """Up to 80 images of 1 to 30 patients; a patient has one site and one split, as honest data has."""
    rows, classes, patients = draw(st.integers(6, 80)), draw(st.integers(1, 4)), draw(st.integers(6, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    owner = np.concatenate([np.arange(6), rng.integers(0, patients, size=rows - 6)])  # never fewer than 6 patients
    site, split = rng.integers(0, 3, size=patients), rng.integers(0, 3, size=patients)
    site[:3] = range(3)
    return ImageTable(
        keys=tuple(f"k{row}" for row in range(rows)),
        labels=rng.integers(0, classes, size=rows),
        classes=tuple("abcd"[:classes]),
        splits=tuple(SPLITS[split[p]] for p in owner) if draw(st.booleans()) else None,
        sites=tuple(f"s{site[p]}" for p in owner),
        patients=tuple(f"p{p}" for p in owner) if draw(st.booleans()) else None,
    )


@st.composite
def question_tables(draw: st.DrawFn) -> ImageTable:
    """Up to 80 questions about 6 to 30 images of three sites, perhaps with splits by question and with patients."""
    rows, images = draw(st.integers(6, 80)), draw(st.integers(6, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    shown = rng.permutation(np.concatenate([np.arange(6), rng.integers(0, images, size=rows - 6)]))
    patient = rng.integers(6, images, size=images) if images > 6 else np.arange(images)
    patient[:6] = range(6)
    site = rng.integers(0, 3, size=images)
    site[:3] = range(3)
    return ImageTable(
        keys=tuple(f"q{row}" for row in range(rows)),
        labels=rng.integers(0, 3, size=rows),
        classes=("a", "b", "c"),
        splits=tuple(SPLITS[split] for split in rng.integers(0, 3, size=rows)) if draw(st.booleans()) else None,
        sites=tuple(f"s{site[patient[image]]}" for image in shown),
        patients=tuple(f"p{patient[image]}" for image in shown) if draw(st.booleans()) else None,
        texts=("why",) * rows,
        answers=("so",) * rows,
        images=tuple(f"i{image}" for image in shown),
        splits_share_patients=True,
    )


def partition(table: ImageTable, spec: str, **changes: Any) -> PartitionManifest:
    if spec.startswith("pathological") and len(table.classes) < 2:
        spec = "pathological(classes_per_site=1)"
    return make_partition(TableOnly(table), spec, **(DEFAULTS | changes))


@pytest.mark.parametrize("spec", SPECS)
@properties
@given(table=tables(), seed=st.integers(0, 1000))
def test_every_image_is_in_one_site_and_one_split(spec: str, table: ImageTable, seed: int) -> None:
    made = partition(table, spec, seed=seed)
    listed = np.concatenate([made.rows(site, split) for site in made.sites for split in SPLITS])
    assert sorted(listed.tolist()) == list(range(len(table)))
    assert made.counts().sum() == len(table)
    assert np.array_equal(made.counts().sum(axis=(0, 1)), np.bincount(table.labels, minlength=len(table.classes)))


@pytest.mark.parametrize("spec", SPECS)
@properties
@given(table=tables(), seed=st.integers(0, 1000))
def test_no_patient_is_in_two_places(spec: str, table: ImageTable, seed: int) -> None:
    made = partition(table, spec, seed=seed)
    places: dict[str, set[tuple[int, int]]] = {}
    for row, patient in enumerate(table.patients or table.keys):
        places.setdefault(patient, set()).add((int(made.site_of[row]), int(made.split_of[row])))
    assert all(len(found) == 1 for found in places.values())


@pytest.mark.parametrize("spec", SPECS)
@properties
@given(table=question_tables(), seed=st.integers(0, 1000))
def test_no_image_is_in_two_sites_and_published_splits_stay(spec: str, table: ImageTable, seed: int) -> None:
    made = partition(table, spec, seed=seed)
    made.check(table)
    assert table.images is not None
    sites: dict[str, set[int]] = {}
    for owners in (table.images, table.patients or ()):
        for row, owner in enumerate(owners):
            sites.setdefault(owner, set()).add(int(made.site_of[row]))
    assert all(len(found) == 1 for found in sites.values())
    if table.splits is None:
        places = {(image, int(split)) for image, split in zip(table.images, made.split_of, strict=True)}
        assert len(places) == len(set(table.images))
    elif set(table.splits) == set(SPLITS):
        assert [SPLITS[code] for code in made.split_of] == list(table.splits)


@pytest.mark.parametrize("spec", SPECS)
@properties
@given(table=tables(), seed=st.integers(0, 1000))
def test_a_partition_can_be_made_again(spec: str, table: ImageTable, seed: int) -> None:
    assert partition(table, spec, seed=seed).hash() == partition(table, spec, seed=seed).hash()


@pytest.mark.parametrize("spec", SPECS)
@properties
@given(table=tables())
def test_test_images_of_the_source_stay_test_images(spec: str, table: ImageTable) -> None:
    made = partition(table, spec)
    if table.splits is not None and "test" in table.splits:
        given_test = [row for row, split in enumerate(table.splits) if split == "test"]
        assert np.flatnonzero(made.split_of == SPLITS.index("test")).tolist() == given_test


@pytest.mark.parametrize("spec", SPECS)
def test_another_seed_is_another_partition(spec: str, plain_source: Callable[..., Any]) -> None:
    source = plain_source(60, 3, sites=("s", "t", "u") * 20)
    first, second = (make_partition(source, spec, **(DEFAULTS | {"seed": seed})) for seed in (0, 1))
    assert not np.array_equal(first.site_of * 3 + first.split_of, second.site_of * 3 + second.split_of)


def test_the_manifest_says_what_it_was_made_from(plain_source: Callable[..., Any]) -> None:
    source = plain_source(30, 3)
    made = make_partition(source, "dirichlet( alpha=1 )", **(DEFAULTS | {"seed": 9}))
    assert (made.source, made.partitioner, made.seed) == ("plain", "dirichlet(alpha=1)", 9)
    assert made.source_hash == source.table.content_hash()
    assert made.classes == ("a", "b", "c")


def test_partitions_of_images_are_what_they_were_before_there_were_texts() -> None:
    source = build_source("phantoms(images=60, scanners=3, size=16, patients=20)")
    made = make_partition(source, "dirichlet(alpha=0.5)", **(DEFAULTS | {"seed": 1, "min_train_per_site": 1}))
    assert made.hash() == "17596048571f3b72455470eaf96486e4100c6928e67adef873a38f865bb2475d"


def test_a_draw_that_misses_the_minimum_is_drawn_again(plain_source: Callable[..., Any]) -> None:
    def smallest(least: int) -> int:
        made = make_partition(plain_source(120, 4), "dirichlet", **(DEFAULTS | {"min_train_per_site": least}))
        return int(made.counts()[:, 0].sum(axis=1).min())

    assert smallest(smallest(0) + 1) > smallest(0)


@pytest.mark.parametrize("spec", ["dirichlet(alpha=0.01)", "quantity(alpha=0.01)"])
def test_a_minimum_out_of_reach_names_the_sites_and_the_remedy(spec: str, plain_source: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"in 100 draws: .*site-\d has \d+.*min_train_per_site=11\. Raise alpha"):
        make_partition(plain_source(60, 3), spec, **(DEFAULTS | {"sites": 5, "min_train_per_site": 11}))


@pytest.mark.parametrize(("answers", "unit"), [(None, "texts"), (("a",) * 60, "questions")])
def test_messages_name_what_the_rows_are(
    plain_source: Callable[..., Any], answers: tuple[str, ...] | None, unit: str
) -> None:
    source = plain_source(60, 3, texts=("what is it",) * 60, answers=answers)
    with pytest.raises(DataError, match=f"gives too few training {unit}: site-0"):
        make_partition(source, "iid", **(DEFAULTS | {"min_train_per_site": 100}))


def test_a_minimum_out_of_reach_without_chance_does_not_speak_of_draws(plain_source: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"^iid gives too few training images: site-0 has 12.* Use fewer sites"):
        make_partition(plain_source(60, 3), "iid", **(DEFAULTS | {"min_train_per_site": 13}))


@pytest.mark.parametrize(
    ("spec", "changes", "named"),
    [
        ("dirichlet(alpha=0)", {}, "alpha"),
        ("dirichlet(beta=1)", {}, "no option 'beta'"),
        ("dirichlt", {}, "Did you mean 'dirichlet'"),
        ("iid", {"sites": 0}, "sites=0"),
        ("natural", {"sites": -1}, "sites=-1"),
        ("iid", {"min_train_per_site": -1}, "min_train_per_site=-1"),
        ("iid", {"val_fraction": 1.0}, "val_fraction=1.0"),
    ],
)
def test_wrong_arguments_are_configuration_errors(
    spec: str, changes: dict[str, Any], named: str, plain_source: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigError, match=named):
        make_partition(plain_source(30, 3), spec, **(DEFAULTS | changes))


def test_more_sites_than_patients_is_refused(plain_source: Callable[..., Any]) -> None:
    source = plain_source(30, 3, patients=("p", "q") * 15)
    with pytest.raises(DataError, match="sites=3 is more than the 2 patients"):
        make_partition(source, "iid", **DEFAULTS)


def test_a_partitioner_that_tears_patients_apart_is_stopped(
    plain_source: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Careless(DrawnOnce):
        def assign(self, table: ImageTable, sites: int, rng: np.random.Generator) -> Assignment:
            return Assignment(np.arange(len(table)) % sites, ("s", "t"))

    registry: Registry[Partitioner] = Registry("partitioner")
    registry.register("careless")(lambda options: Careless())
    monkeypatch.setattr("fedmedpeft.data.partition.PARTITIONERS", registry)
    source = plain_source(30, 3, patients=("p", "p", "q") * 10)
    with pytest.raises(DataError, match="2 patients are in more than one site"):
        make_partition(source, "careless", **(DEFAULTS | {"sites": 2}))


def test_the_partitioners_are_those_of_the_documentation() -> None:
    assert PARTITIONERS.names() == ["dirichlet", "feature-shift", "iid", "natural", "pathological", "quantity"]
