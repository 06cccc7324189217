from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmedpeft.components import ConfigError
from fedmedpeft.privacy.domain_reference import FeatureReference


def _reference(**changes: Any) -> FeatureReference:
    values: dict[str, Any] = {
        "mean": torch.tensor([0.1, -2.5e-8, 3e7]),
        "std": torch.tensor([1.0, 0.0, 0.3]),
        "samples": 40,
        "fingerprint": "0123456789abcdef" * 4,
        "source": "cells of the first laboratory",
        "threshold": 0.25,
    }
    return FeatureReference(**values | changes)


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    saved = _reference(mean=torch.randn(64, generator=torch.Generator().manual_seed(0)), std=torch.rand(64))
    saved.save(tmp_path / "new" / "reference.json")
    read = FeatureReference.load(tmp_path / "new" / "reference.json")
    assert torch.equal(read.mean, saved.mean)
    assert torch.equal(read.std, saved.std)
    assert read.mean.dtype == torch.float32
    for name in ("samples", "fingerprint", "source", "threshold"):
        assert getattr(read, name) == getattr(saved, name)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["reference.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "fedmedpeft-adapter"}, "is not a feature reference"),
        ({"format_version": 2}, "has format_version=2; this version reads 1"),
        ({"mean": [0.1, 0.2]}, "2 means and 3 standard deviations do not belong together"),
        ({"mean": [], "std": []}, "expected one number for each dimension"),
        ({"mean": [0.1, float("nan"), 0.2]}, "mean.1.*finite number"),
        ({"mean": [0.1, 1e300, 0.2]}, "mean has a value that float32 cannot hold"),
        ({"mean": [0.1, "0.2", 0.3]}, "mean.1.*valid number"),
        ({"std": [0.1, -0.2, 0.3]}, "a standard deviation is below 0"),
        ({"std": [0.1, float("inf"), 0.3]}, "std.1.*finite number"),
        ({"samples": 1}, "samples=1: a standard deviation needs 2"),
        ({"samples": True}, "samples=True.*integer"),
        ({"threshold": 0.0}, "threshold=0.0 must be above 0"),
        ({"threshold": float("inf")}, "threshold=inf.*finite"),
        ({"fingerprint": "abc"}, "fingerprint 'abc' is no SHA-256"),
        ({"covariance": []}, "covariance"),
        ({"source": None}, "source=None.*text"),
        ({"threshold": ...}, "'threshold' is missing"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "reference.json"
    _reference().save(path)
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
    with pytest.raises(ConfigError, match=message) as caught:
        FeatureReference.load(path)
    assert "fedmedpeft privacy reference" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "is not a feature reference"),
        (b" " * (16 * 2**20 + 1), "has more than 16 MiB"),
    ],
)
def test_what_is_no_reference_at_all(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "reference.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        FeatureReference.load(tmp_path / "reference.json")


def test_no_such_file_and_no_such_directory_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read .No such file"):
        FeatureReference.load(tmp_path / "nowhere.json")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        _reference().save(tmp_path / "file" / "reference.json")
