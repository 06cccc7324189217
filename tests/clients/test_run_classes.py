"""The classes of a run that the federation agreed on, at one site."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from clients.run_classes import RunClasses
from clients.site_store import SiteStore
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import ContractError, Refusal, SiteError


def _classes(tmp_path: Path, task: str = "vqa") -> RunClasses:
    return RunClasses(RunConfig(task=task), SiteStore(tmp_path, "a"))


def test_what_was_sent_once_is_found_by_another_process(tmp_path: Path) -> None:
    assert _classes(tmp_path).of("run", "no\nyes") == ("no", "yes")
    assert _classes(tmp_path).of("run", None) == ("no", "yes")
    assert _classes(tmp_path).of("run", "left\nright") == ("left", "right")
    assert _classes(tmp_path).of("run", None) == ("left", "right")
    kept = tmp_path / "run" / "sites" / "a.classes.txt"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_each_run_and_each_site_has_its_own(tmp_path: Path) -> None:
    _classes(tmp_path).of("run", "no\nyes")
    for other in (_classes(tmp_path), RunClasses(RunConfig(task="vqa"), SiteStore(tmp_path, "b"))):
        with pytest.raises(SiteError, match="no longer has the run's classes") as raised:
            other.of("other" if other.store.site == "a" else "run", None)
        assert raised.value.code is Refusal.CLASSES


@pytest.mark.parametrize("sent", ["", "yes\n", "yes\nyes", "Yes", "x" * 300, "a\x00b"])
def test_what_can_be_no_runs_classes_is_refused_and_not_kept(tmp_path: Path, sent: str) -> None:
    with pytest.raises(ContractError, match="the list of the run's classes has"):
        _classes(tmp_path).of("run", sent)
    assert not list(tmp_path.rglob("*.txt"))


def test_a_list_of_the_sites_own_must_be_the_runs(tmp_path: Path) -> None:
    own = tmp_path / "answers.txt"
    own.write_text("yes\nno\n")
    classes = _classes(tmp_path, f"vqa(answers='{own}')")
    assert classes.of("run", "yes\nno") == ("yes", "no")
    with pytest.raises(SiteError, match="differs from the run's") as raised:
        classes.of("run", "no\nyes")
    assert raised.value.code is Refusal.CONFIGURATION
    own.unlink()
    with pytest.raises(SiteError, match="its own list of answers cannot be used") as raised:
        classes.of("run", "yes\nno")
    assert str(tmp_path) not in raised.value.reason
