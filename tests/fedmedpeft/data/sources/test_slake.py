from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.data.errors import DataError
from fedmedpeft.data.partition import make_partition
from fedmedpeft.data.source import Source, build_source


def row(qid: int, image: int, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "img_id": image,
        "img_name": f"xmlab{image}/source.jpg",
        "question": "What is it?",
        "answer": "MRI",
        "q_lang": "en",
        "location": "Pelvic Cavity",
        "modality": "MRI",
        "answer_type": "OPEN",
        "base_type": "vqa",
        "content_type": "Modality",
        "triple": ["vhead", "_", "_"],
        "qid": qid,
    }
    return fields | changes


@pytest.fixture
def folder(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    for image in range(4):
        write_image(f"imgs/xmlab{image}/source.jpg", colour=(0, 60 * image, 0))
    files = {
        "train": [row(1, 0), row(2, 0, q_lang="zh", question="这是什么?"), row(3, 1, modality="CT", location="Lung")],
        "validate": [row(1, 2, answer_type="CLOSED", answer="Yes", content_type="Organ")],
        "test": [row(9, 3)],
    }
    for name, rows in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    return tmp_path


def slake(folder: Path, options: str = "") -> Source:
    return build_source(f"slake(path='{folder}'{options})")


def test_the_published_layout_is_read_in_one_language(folder: Path) -> None:
    source = slake(folder)
    table = source.table
    assert table.keys == ("train/1", "train/3", "val/1", "test/9")
    assert table.splits == ("train", "train", "val", "test")
    assert table.sites == ("MRI", "CT", "MRI", "MRI")
    assert table.images == tuple(f"xmlab{image}/source.jpg" for image in range(4))
    assert table.answers == ("mri", "mri", "yes", "mri")
    assert table.answer_types == ("open", "open", "closed", "open")
    assert [table.classes[label] for label in table.labels] == ["Modality", "Modality", "Organ", "Modality"]
    assert not table.splits_share_patients
    assert source.image(3).getpixel((0, 0)) == pytest.approx((0, 180, 0), abs=5)
    assert slake(folder, ", language=zh").table.texts == ("这是什么?",)


def test_a_location_can_be_the_site_even_of_two_words(folder: Path) -> None:
    source = slake(folder, ", sites=location")
    made = make_partition(source, "natural", sites=0, seed=0, val_fraction=0.1, test_fraction=0.1, min_train_per_site=0)
    assert made.sites == ("Lung", "Pelvic Cavity")


def test_an_image_in_two_of_its_splits_is_a_fault(folder: Path) -> None:
    (folder / "test.json").write_text(json.dumps([row(9, 0)]))
    with pytest.raises(DataError, match="1 of 3 images are in more than one split"):
        make_partition(slake(folder), "iid", sites=1, seed=0, val_fraction=0.1, test_fraction=0.1, min_train_per_site=0)


def test_a_language_that_is_not_there_is_named_with_those_that_are(folder: Path) -> None:
    with pytest.raises(DataError, match=r"language 'eng'\. Did you mean 'en'\? It has: en, zh"):
        slake(folder, ", language=eng")


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "validate.json").unlink()
    with pytest.raises(DataError, match=r"no validate\.json or validation\.json \(the val questions\)"):
        slake(folder)
