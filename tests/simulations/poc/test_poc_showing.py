from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from simulations.poc import showing
from simulations.poc.errors import PocError
from simulations.poc.plan import Plan
from simulations.poc.showing import show

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc on this system")

Ends = Callable[[BaseException | None], None]


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ends:
    """How the play ends, in place of one; temporary directories are made below `temporary`."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("simulations.poc.stage._LONGEST_SOCKET", 1000)
    for name in ("tell_sites", "tell_rounds", "tell_result"):
        monkeypatch.setattr(showing, name, lambda *arguments, **named: None)

    def end(error: BaseException | None) -> None:
        def perform(play: object) -> None:
            if error:
                raise error

        monkeypatch.setattr("simulations.poc.play.Play.perform", perform)

    end(None)
    return end


def _left(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "temporary").iterdir())


def test_a_temporary_directory_goes_unless_it_is_to_be_kept(plan: Plan, ends: Ends, tmp_path: Path) -> None:
    show(plan, None, print, keep=False)
    assert not _left(tmp_path)
    show(plan, None, print, keep=True)
    (kept,) = _left(tmp_path)
    assert kept.stat().st_mode & 0o777 == 0o700, "there are keys in it"
    assert "SYNTHETIC" in (kept / showing.LOG).read_text()


def test_what_failed_is_kept_with_its_logs(plan: Plan, ends: Ends, tmp_path: Path) -> None:
    ends(PocError("it did not come."))
    said: list[str] = []
    with pytest.raises(PocError, match="it did not come. All logs: /"):
        show(plan, None, said.append, keep=False)
    (kept,) = _left(tmp_path)
    assert "FAILED: it did not come." in (kept / showing.LOG).read_text()
    assert said[-1] == f"Kept: {kept}"


def test_what_was_interrupted_leaves_nothing(plan: Plan, ends: Ends, tmp_path: Path) -> None:
    ends(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        show(plan, None, print, keep=False)
    assert not _left(tmp_path)


def test_a_named_directory_is_new_and_stays(plan: Plan, ends: Ends, tmp_path: Path) -> None:
    show(plan, tmp_path / "work", print, keep=False)
    assert (tmp_path / "work" / showing.LOG).is_file()
    assert (tmp_path / "work").stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigError, match="not empty"):
        show(plan, tmp_path / "work", print, keep=False)
