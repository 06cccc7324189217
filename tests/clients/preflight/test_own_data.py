from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.preflight.announced_run import check_settings
from clients.preflight.check import Check, Result, run_checks
from clients.preflight.facts import Facts
from clients.preflight.images import SAMPLE, check_images
from clients.preflight.own_data import check_counts, check_data, check_labels, check_leakage
from fedmedpeft.config import RunConfig
from tests.clients.preflight.hospital_files import CLASSES, image_rows

Look = Callable[..., Result]


@pytest.fixture
def look(facts_of: Callable[..., Facts]) -> Look:
    """The last of some checks on a data source, after those before it."""

    def run(
        source: str, *checks: Callable[[Facts], Result], thorough: bool = False, declared: bool = True, **changes: Any
    ) -> Result:
        facts = facts_of(data={"source": source, "classes": list(CLASSES) if declared else []}, **changes)
        facts.thorough = thorough
        found = run_checks([Check(str(i), "", check) for i, check in enumerate(checks)], facts, lambda check: None)
        return found[-1].result

    return run


_TO_COUNTS = (check_settings, check_data, check_leakage, check_counts)


def test_known_labels(look: Look, make_images: Callable[..., str]) -> None:
    source = make_images(image_rows(20))
    assert look(source, check_data, check_labels).status == "pass"
    undeclared = look(source, check_data, check_labels, declared=False)
    assert (undeclared.status, "benign" in undeclared.text, "benign" in undeclared.details[0]) == ("fail", False, True)


def test_labels_are_not_asked_for_where_the_run_needs_none(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of()
    facts.announced = RunConfig(task="retrieval")
    assert check_labels(facts).status == "pass"


def test_an_unknown_label(look: Look, make_images: Callable[..., str]) -> None:
    result = look(make_images([*image_rows(20), ("x.png", "maligant", "px", "train")]), check_data)
    assert (result.status, "maligant" in result.text) == ("fail", False)
    assert "maligant" in result.details[0]


def test_data_that_is_not_there(look: Look, tmp_path: Path) -> None:
    result = look(f"manifest(path={tmp_path / 'none.csv'})", check_data)
    assert (result.status, str(tmp_path) in result.text) == ("fail", False)


def test_patients_in_two_splits(look: Look, make_images: Callable[..., str]) -> None:
    torn = [("t1.png", "benign", "p0", "train"), ("t2.png", "benign", "p2", "test")]
    sound = look(make_images(image_rows(40)), check_data, check_leakage)
    assert (sound.status, "(40 patients)" in sound.text) == ("pass", True)
    result = look(make_images([*image_rows(40), *torn]), check_data, check_leakage)
    assert (result.status, "fewer than 10 of 40 patients" in result.text) == ("fail", True), result.text
    exact = look(make_images([*image_rows(40), *torn]), check_data, check_leakage, policy={"smallest-count": 0})
    assert "2 of 40 patients" in exact.text
    assert len(exact.details) == 2


def test_data_without_patients_or_splits(look: Look, make_images: Callable[..., str]) -> None:
    assert look(make_images(image_rows(20), "file,label,split"), check_data, check_leakage).status == "warn"
    drawn = look(make_images(image_rows(20), "file,label,patient"), check_data, check_leakage)
    assert (drawn.status, "drawn by patient" in drawn.text) == ("pass", True)


def test_counts(look: Look, make_images: Callable[..., str]) -> None:
    result = look(make_images(image_rows(40)), *_TO_COUNTS)
    assert result.status == "pass"
    assert "train 48, val 16, test 16; training by class: benign 24, malignant 24" in result.text


def test_small_counts_are_not_told(look: Look, make_images: Callable[..., str]) -> None:
    """The report may be mailed to the coordinator: what the policy keeps from the server stays out of it."""
    result = look(make_images(image_rows(40)), *_TO_COUNTS, policy={"smallest-count": 20})
    assert result.text.startswith("fewer than 20 in at least one of train, val, test; ")
    assert "48" not in result.text  # of 80 in all, the others would follow
    one_class = look(make_images(image_rows(40)), *_TO_COUNTS, policy={"smallest-count": 25})
    assert "24" not in one_class.text
    assert any("8" in line for line in result.details)


def test_too_little_to_learn_from(look: Look, make_images: Callable[..., str]) -> None:
    one_class = [row for row in image_rows(60) if row[1] == "benign"]
    result = look(make_images(one_class), *_TO_COUNTS)
    assert (result.status, "one class only" in result.text) == ("warn", True), result.text
    few = look(make_images(image_rows(10, per_patient=8)), *_TO_COUNTS)
    assert (few.status, "fewer than 10 patients" in few.text) == ("warn", True), few.text
    nothing = look(make_images([row for row in image_rows(40) if row[3] != "test"]), *_TO_COUNTS)
    assert nothing.status == "pass"  # a test is drawn where there is none
    assert look(make_images(image_rows(4, per_patient=1)), *_TO_COUNTS).status == "fail"


def test_images(look: Look, make_images: Callable[..., str], tmp_path: Path) -> None:
    source = make_images(image_rows(40))
    sample = look(source, *_TO_COUNTS, check_images)
    assert (sample.status, f"{SAMPLE} of {SAMPLE} images" in sample.text) == ("pass", True), sample.text
    every = look(source, *_TO_COUNTS, check_images, thorough=True)
    assert (every.status, "80 of 80 images decoded (all)" in every.text) == ("pass", True)
    broken = sorted((tmp_path / "pictures").glob("*.png"))
    broken[0].write_bytes(b"nothing")
    result = look(source, *_TO_COUNTS, check_images, thorough=True)
    assert (result.status, "79 of 80" in result.text) == ("warn", True)
    assert broken[0].name not in result.text
    assert broken[0].name in result.details[0]
    for path in broken[:41]:
        path.write_bytes(b"nothing")
    assert look(source, *_TO_COUNTS, check_images, thorough=True).status == "fail"


def test_copies_in_two_splits(look: Look, make_images: Callable[..., str], tmp_path: Path) -> None:
    source = make_images(image_rows(40))
    same = Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8))
    train, test = (next(row[0] for row in image_rows(40) if row[3] == split) for split in ("train", "test"))
    same.save(tmp_path / "pictures" / train)
    same.save(tmp_path / "pictures" / test)
    result = look(source, *_TO_COUNTS, check_images, thorough=True)
    assert (result.status, "1 are in more than one split" in result.text) == ("warn", True), result.text
    Image.fromarray(np.ones((32, 32, 3), dtype=np.uint8)).save(tmp_path / "pictures" / test)
    same.save(tmp_path / "pictures" / train.replace("_0", "_1"))
    # Two of one split are no matter.
    assert look(source, *_TO_COUNTS, check_images, thorough=True).status == "pass"
