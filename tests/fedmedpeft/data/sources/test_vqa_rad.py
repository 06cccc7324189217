from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition import make_partition
from fedmedpeft.data.source import Source, build_source

ROW: dict[str, Any] = {
    "qid": 1,
    "image_name": "a.jpg",
    "image_organ": "HEAD",
    "question": "Is it big?",
    "answer": "Yes",
    "answer_type": "CLOSED ",
    "question_type": "SIZE, PRES",
    "phrase_type": "freeform",
}
OTHER = ROW | {"qid": 2, "image_name": "b.jpg", "question": "How many?", "answer": 3, "answer_type": "OPEN"}
OTHER |= {"question_type": "ATRIB"}
TEST = ROW | {"qid": 3, "answer": "No.", "phrase_type": "test_para"}


@pytest.fixture
def images(write_image: Callable[..., Path]) -> None:
    write_image("images/a.jpg")
    write_image("images/b.jpg")


def release(tmp_path: Path, files: dict[str, Any], options: str = "") -> Source:
    for name, rows in files.items():
        text = rows if isinstance(rows, str) else json.dumps(rows)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return build_source(f"vqa-rad(path='{tmp_path}'{options})")


def usual(tmp_path: Path, **changes: Any) -> Source:
    return release(tmp_path, {"train.json": [ROW | changes, OTHER], "test.json": [TEST]})


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    "files",
    [
        {"train.json": [ROW, OTHER], "test.json": [TEST]},
        {"trainset.json": [ROW, OTHER], "testset.json": [TEST]},
    ],
)
def test_both_layouts_give_the_same_table(tmp_path: Path, files: dict[str, Any]) -> None:
    source = release(tmp_path, files)
    table = source.table
    assert table.keys == ("train/1", "train/2", "test/3")
    assert table.splits == ("train", "train", "test")
    assert table.sites == ("HEAD",) * 3
    assert table.images == ("a.jpg", "b.jpg", "a.jpg")
    assert table.texts == ("Is it big?", "How many?", "Is it big?")
    assert table.answers == ("yes", "3", "no")
    assert table.answer_types == ("closed", "open", "closed")
    assert [table.classes[label] for label in table.labels] == ["SIZE", "ATTRIB", "SIZE"]
    assert table.splits_share_patients
    assert "test images are also in train" in source.description
    assert source.image(1).size == (10, 10)
    assert not source.synthetic


@pytest.mark.usefixtures("images")
def test_the_one_file_of_the_first_release_marks_its_tests(tmp_path: Path) -> None:
    table = release(tmp_path, {"VQA_RAD Dataset Public.json": [ROW, OTHER, TEST]}).table
    assert table.splits == ("train", "train", "test")
    assert table.keys == ("1", "2", "3")


@pytest.mark.usefixtures("images")
def test_a_split_by_image_is_drawn_and_says_nothing_of_sharing(tmp_path: Path) -> None:
    usual(tmp_path)
    source = build_source(f"vqa-rad(path='{tmp_path}', split=image)")
    assert source.table.splits is None
    assert not source.table.splits_share_patients
    assert "also in train" not in source.description


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"train.json": [ROW]}, r"no test\.json or testset\.json"),
        ({"train.json": "{", "test.json": [TEST]}, r"train\.json' is not JSON"),
        ({"train.json": {"a": 1}, "test.json": [TEST]}, "not a JSON list of objects"),
        ({"train.json": [1], "test.json": [TEST]}, "not a JSON list of objects"),
        ({"train.json": [], "test.json": [TEST]}, "no column 'qid'"),
        ({"train.json": [{"qid": 1}], "test.json": [TEST]}, "no column 'image_name'"),
        ({"train.json": [ROW, {"qid": 2}], "test.json": [TEST]}, "empty in 1 of 2 rows, first in row 2"),
        ({"train.json": [ROW | {"question": "  "}], "test.json": [TEST]}, "'question' .* is empty"),
        ({"train.json": [ROW | {"answer": None}], "test.json": [TEST]}, "'answer' .* is empty"),
        ({"train.json": [ROW | {"answer": "."}], "test.json": [TEST]}, "Nothing is left of the answer"),
        ({"train.json": [ROW | {"answer_type": "CLOSE"}], "test.json": [TEST]}, "Did you mean 'closed'"),
        ({"train.json": [ROW, ROW], "test.json": [TEST]}, "'train/1' appears 2 times"),
        ({"train.json": [ROW | {"image_name": "x.jpg"}], "test.json": [TEST | {"image_name": "y.jpg"}]}, "None of the"),
    ],
)
def test_what_is_wrong_is_named_and_only_at_the_site(tmp_path: Path, files: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=named) as caught:
        release(tmp_path, files)
    assert str(tmp_path) not in caught.value.public
    assert "train" not in caught.value.public


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize(
    "options", ["sites=modality", "skew=organ", "split=patient", "templates=x", "seed=-1", "skw=a"]
)
def test_unknown_options_are_refused(tmp_path: Path, options: str) -> None:
    usual(tmp_path)
    with pytest.raises(ConfigError, match=options.split("=")[0]):
        build_source(f"vqa-rad(path='{tmp_path}', {options})")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none' does not exist"):
        build_source(f"vqa-rad(path='{tmp_path / 'none'}')")


def rad(shared_data: Path, options: str = "") -> Source:
    return build_source(f"vqa-rad(path={shared_data / 'vqa_rad'}{options})")


def test_the_real_set_has_the_published_numbers(shared_data: Path) -> None:
    table = rad(shared_data).table
    assert table.splits is not None
    assert table.sites is not None
    assert table.answer_types is not None
    assert table.answers is not None
    assert Counter(table.splits) == {"train": 3064, "test": 451}
    train = Counter(site for site, split in zip(table.sites, table.splits, strict=True) if split == "train")
    assert train == {"HEAD": 977, "CHEST": 1088, "ABD": 999}
    types = Counter(zip(table.splits, table.answer_types, strict=True))
    assert types == {("train", "closed"): 1823, ("train", "open"): 1241, ("test", "closed"): 272, ("test", "open"): 179}
    assert len(set(table.images or ())) == 314
    kinds = ["ABN", "ATTRIB", "COLOR", "COUNT", "MODALITY", "ORGAN", "OTHER", "PLANE", "POS", "PRES", "SIZE"]
    assert table.classes == tuple(kinds)
    known = {a for a, split in zip(table.answers, table.splits, strict=True) if split == "train"}
    assert 440 < len(known) <= 476  # the published count tells answers apart that differ by a full stop


@pytest.mark.parametrize("skew", ["question-type", "answer", "answer-type"])
@pytest.mark.parametrize(("spec", "sites"), [("natural", 3), ("dirichlet(alpha=0.3)", 4), ("iid", 5)])
def test_no_image_of_the_real_set_is_at_two_sites(shared_data: Path, skew: str, spec: str, sites: int) -> None:
    source = rad(shared_data, f", skew={skew}")
    made = make_partition(
        source, spec, sites=sites, seed=0, val_fraction=0.15, test_fraction=0.25, min_train_per_site=10
    )
    made.check(source.table)
    places = set(zip(source.table.images or (), made.site_of.tolist(), strict=True))
    assert len(places) == 314
    assert made.counts()[:, 2].sum() == 451


def test_dirichlet_skews_the_answer_types_of_the_real_set_more_than_iid(shared_data: Path) -> None:
    source = rad(shared_data, ", skew=answer-type")

    def spread(spec: str) -> float:
        made = make_partition(source, spec, sites=3, seed=0, val_fraction=0, test_fraction=0, min_train_per_site=10)
        counts = made.counts().sum(axis=1)
        return float((counts[:, 0] / counts.sum(axis=1)).std())

    assert spread("dirichlet(alpha=0.3)") > 2 * spread("iid")


def test_templates_change_the_wording_of_the_real_set_and_nothing_else(shared_data: Path) -> None:
    plain, instructed = rad(shared_data).table, rad(shared_data, ", templates=instruct").table
    assert instructed.answers == plain.answers
    assert all(q in text for q, text in zip(plain.texts or (), instructed.texts or (), strict=True))
    assert instructed.content_hash() != plain.content_hash()
    assert instructed.content_hash() != rad(shared_data, ", templates=instruct, seed=1").table.content_hash()
