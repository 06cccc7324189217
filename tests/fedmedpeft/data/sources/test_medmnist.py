from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.data.decode import NOT_FINITE
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import Source, build_source
from fedmedpeft.data.sources.medmnist_classes import CLASS_NAMES


def arrays(**changes: Any) -> dict[str, Any]:
    """Three train, one val and two test images; the red channel counts them."""
    made: dict[str, Any] = {}
    for split, labels, first in (("train", [0, 1, 1], 0), ("val", [0], 3), ("test", [1, 0], 4)):
        images = np.zeros((len(labels), 4, 4), dtype=np.uint8)
        images += np.arange(first, first + len(labels), dtype=np.uint8)[:, None, None]
        made[f"{split}_images"], made[f"{split}_labels"] = images, np.array(labels, dtype=np.uint8)[:, None]
    return made | changes


def medmnist(path: Path, **changes: Any) -> Source:
    np.savez(path, **arrays(**changes))
    return build_source(f"medmnist(path='{path}')")


def test_rows_are_train_then_val_then_test(tmp_path: Path) -> None:
    source = medmnist(tmp_path / "breastmnist.npz")
    table = source.table
    assert table.keys == ("train/0", "train/1", "train/2", "val/0", "test/0", "test/1")
    assert table.splits == ("train", "train", "train", "val", "test", "test")
    assert table.classes == ("malignant", "normal or benign")
    assert table.labels.tolist() == [0, 1, 1, 0, 1, 0]
    assert [source.image(row).getpixel((0, 0)) for row in range(6)] == [(row,) * 3 for row in range(6)]
    assert source.name == "medmnist:breastmnist"


def test_a_set_without_known_names_gets_numbered_classes(tmp_path: Path) -> None:
    labels = np.array([0, 10, 2])
    assert medmnist(tmp_path / "own.npz", train_labels=labels).table.classes[-1] == "class-10"
    assert medmnist(tmp_path / "breastmnist_64.npz", train_labels=labels).table.labels.tolist()[:3] == [0, 10, 2]


def test_numbers_follow_the_names_where_those_are_not_alphabetical(tmp_path: Path) -> None:
    table = medmnist(tmp_path / "pathmnist.npz", train_labels=np.array([5, 6, 8])).table
    published = [CLASS_NAMES["pathmnist"][number] for number in (5, 6, 8)]
    assert [table.classes[label] for label in table.labels[:3]] == published


def test_colour_and_pixels_that_are_not_finite(tmp_path: Path) -> None:
    images = np.full((3, 4, 4, 3), 0.5)
    images[1, 0, 0, 0] = np.nan
    source = medmnist(tmp_path / "a.npz", train_images=images)
    assert source.image(0).getpixel((0, 0)) == (128, 128, 128)
    with pytest.raises(DataError, match="train/1") as caught:
        source.image(1)
    assert caught.value.public == NOT_FINITE


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train_labels": np.zeros((3, 14), dtype=np.uint8)}, "multi-label"),
        ({"train_labels": np.zeros(2, dtype=np.uint8)}, r"shape \(2,\) .* for 3 images"),
        ({"train_labels": np.array([0.0, 1.0, 1.0])}, "float64"),
        ({"train_labels": np.array([0, -1, 1])}, "below 0"),
        ({"val_images": np.zeros((1, 4, 4, 4), dtype=np.uint8)}, "only two-dimensional"),
        ({"test_labels": np.array([{"evil": 1}, None])}, "not a readable MedMNIST"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(DataError, match=named):
        medmnist(tmp_path / "a.npz", **changes)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match="does not exist"):
        build_source(f"medmnist(path='{path}')")
    np.savez(path, train_images=np.zeros(3))
    whole = path.read_bytes()
    for content in (b"", b"text", whole, whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a readable MedMNIST"):
            build_source(f"medmnist(path='{path}')")


@pytest.mark.parametrize("spec", ["medmnist", "medmnist(path=/a.npz, name=breastmnist)"])
def test_it_is_either_a_path_or_a_name(spec: str) -> None:
    with pytest.raises(ConfigError, match="either path="):
        build_source(spec)


def test_a_name_without_the_optional_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(DataError, match="needs the optional package 'medmnist'"):
        build_source("medmnist(name=breastmnist)")


def test_a_name_is_left_to_the_package_to_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*, split: str, download: bool, root: str, size: int) -> None:
        assert (split, download) == ("train", True)
        if size != 28:
            raise RuntimeError("no network")
        np.savez(Path(root) / "breastmnist.npz", **arrays())

    package = ModuleType("medmnist")
    package.INFO = {"breastmnist": {"python_class": "BreastMNIST"}}  # type: ignore[attr-defined]
    package.BreastMNIST = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "medmnist", package)
    spec = f"medmnist(name=breastmnist, root='{tmp_path / 'cache'}'"
    assert len(build_source(spec + ")").table) == 6
    with pytest.raises(DataError, match=r"cannot be downloaded .*no network.* give its path"):
        build_source(spec + ", size=64)")
    with pytest.raises(DataError, match="no set 'brestmnist'"):
        build_source("medmnist(name=brestmnist)")


def test_the_published_breast_set(shared_data: Path) -> None:
    table = build_source(f"medmnist(path={shared_data / 'medmnist' / 'breastmnist.npz'})").table
    assert table.splits is not None
    assert [table.splits.count(split) for split in ("train", "val", "test")] == [546, 78, 156]
    assert np.bincount(table.labels[:546]).tolist() == [147, 399]
