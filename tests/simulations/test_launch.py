from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.config import RunConfig
from simulations import launch as module
from simulations.launch import Launch, run
from tests.simulations.conftest import SITES


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("sites", "cpus", "cores"),
    [(4, 1, 4), (40, 1, 8), (4, 3, 8), (1, 8, 8)],
)
def test_ray_gets_no_more_cores_than_the_sites_can_use(sites: int, cpus: int, cores: int) -> None:
    text = Launch(RunConfig(), sites, cpus, 0.5).federation()
    assert text == (
        f"num-supernodes={sites} client-resources-num-cpus={cpus} "
        f"client-resources-num-gpus=0.5 init-args-num-cpus={cores}"
    )


class _SuperLink:
    """Stands for a SuperLink that comes up."""

    def __init__(self, home: Path, directory: Path, environment: dict[str, str]) -> None:
        assert list(directory.iterdir()) == []

    def __enter__(self) -> _SuperLink:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def _follower(completed: bool, details: str, directory: Path | None) -> type:
    class _Follower:
        run_directory = directory

        def __init__(
            self, command: list[str], cwd: Path, environment: dict[str, str], log: Path, *rest: object
        ) -> None:
            assert Path(command[2], "pyproject.toml").is_file()
            log.write_text("the log")

        def follow(self) -> None:
            if details == "interrupted":
                raise KeyboardInterrupt

        def status(self) -> tuple[bool, str]:
            return completed, details

    return _Follower


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEDMEDPEFT_FLWR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "LocalSuperLink", _SuperLink)
    return tmp_path / "home"


def test_a_completed_run_leaves_only_its_run_directory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "summary.json").write_text("{}")
    monkeypatch.setattr(module, "Follower", _follower(True, "N/A", tmp_path))
    outcome = run(Launch(RunConfig(), SITES), print)
    assert outcome.directory == tmp_path
    assert list((home / "launches").iterdir()) == []


@pytest.mark.parametrize(
    ("completed", "details", "summary", "reason"),
    [
        (False, "Simulation failed with exception: no sites\nmore", True, "no sites"),
        (True, "", False, "the run ended without a result"),
    ],
)
def test_anything_else_is_a_failure_with_its_log(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    completed: bool,
    details: str,
    summary: bool,
    reason: str,
) -> None:
    if summary:
        (tmp_path / "summary.json").write_text("{}")
    monkeypatch.setattr(module, "Follower", _follower(completed, details, tmp_path))
    outcome = run(Launch(RunConfig(), SITES), print)
    assert (outcome.directory, outcome.reason) == (None, reason)
    assert outcome.log is not None
    assert outcome.log.read_text() == "the log"
    assert not (outcome.log.parent / "app").exists()


def test_an_interrupted_launch_leaves_nothing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Follower", _follower(False, "interrupted", None))
    with pytest.raises(KeyboardInterrupt):
        run(Launch(RunConfig(), SITES), print)
    assert list((home / "launches").iterdir()) == []
