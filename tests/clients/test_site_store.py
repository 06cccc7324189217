from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clients.site_store import SiteStore


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    store = SiteStore.below(str(tmp_path), "st-mary")
    assert store.load("run") == {}
    store.keep("run", {"a/exp_avg": torch.arange(3.0), "step": torch.tensor(4.0)})
    again = SiteStore.below(str(tmp_path), "st-mary").load("run")
    assert torch.equal(again["a/exp_avg"], torch.arange(3.0))
    assert again["step"].shape == ()


def test_runs_and_sites_are_apart(tmp_path: Path) -> None:
    SiteStore.below(str(tmp_path), "a").keep("one", {"x": torch.ones(1)})
    assert SiteStore.below(str(tmp_path), "a").load("two") == {}
    assert SiteStore.below(str(tmp_path), "b").load("one") == {}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SiteStore.below(str(tmp_path), "a")
    store.keep("run", {"x": torch.ones(1)})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("fedmedpeft.atomic_file.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        store.keep("run", {"x": torch.zeros(1)})
    assert store.load("run")["x"] == 1
    assert len(list(tmp_path.rglob("*.*"))) == 1
