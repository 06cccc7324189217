from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.file_lock import locked
from simulations.study.cell import Cell
from simulations.study.cell_directory import CellDirectory, Outcome
from simulations.study.plan import Plan, make_plan
from simulations.study.runner import StudyRunner, choices
from tests.simulations.study.fakes import FakeExecutor, Silent, study


@pytest.fixture
def plan(tiny_backbone: Path) -> Plan:
    return make_plan(study(tiny_backbone))


def _run(plan: Plan, out: Path, execute: FakeExecutor, **options: object) -> Silent:
    watch = Silent()
    StudyRunner(plan, out, execute, watch, **options).run()  # type: ignore[arg-type]
    return watch


def test_all_cells_run_once_and_then_never_again(plan: Plan, tmp_path: Path) -> None:
    execute = FakeExecutor(tmp_path)
    watch = _run(plan, tmp_path, execute)
    assert len(execute.executed) == sum(plan.runs.values()) == len(set(execute.executed))
    assert not any(reused for *_, reused in watch.ends)
    again = FakeExecutor(tmp_path)
    watch = _run(plan, tmp_path, again)
    assert again.executed == []
    assert all(reused and not reason for _, reason, reused in watch.ends)


def test_the_other_seeds_run_at_the_scale_that_validation_speaks_for(plan: Plan, tmp_path: Path) -> None:
    """Test figures say the opposite."""

    def scores(cell: Cell) -> tuple[float, float]:
        better = cell.scale == (0.5 if cell.method == "head" else 1.0)
        return (0.8, 0.1) if better else (0.2, 0.9)

    execute = FakeExecutor(tmp_path, scores)
    _run(plan, tmp_path, execute)
    assert choices(plan, tmp_path) == {("head", "auto"): 0.5, ("layernorm", "auto"): 1.0}
    assert execute.executed[4:] == [
        "head, auto, seed 1, step sizes x0.5",
        "layernorm, auto, seed 1, step sizes x1",
    ]


def test_one_failure_stops_nothing_and_is_not_repeated_until_asked(plan: Plan, tmp_path: Path) -> None:
    execute = FakeExecutor(tmp_path, broken=lambda cell: cell.method == "head" and cell.seed == 1)
    watch = _run(plan, tmp_path, execute)
    assert [reason for _, reason, _ in watch.ends if reason] == ["RuntimeError: the site is on fire"]
    assert len(execute.executed) == 6
    mended = FakeExecutor(tmp_path)
    assert [reason for _, reason, _ in _run(plan, tmp_path, mended).ends].count(
        "RuntimeError: the site is on fire"
    ) == 1
    assert mended.executed == []
    _run(plan, tmp_path, mended, retry_failed=True)
    assert mended.executed == ["head, auto, seed 1, step sizes x1"]


def test_a_method_without_any_validation_score_is_left_at_its_search(plan: Plan, tmp_path: Path) -> None:
    execute = FakeExecutor(tmp_path, broken=lambda cell: cell.method == "head")
    _run(plan, tmp_path, execute)
    assert choices(plan, tmp_path) == {("layernorm", "auto"): 1.0}
    assert [label for label in execute.executed if "seed 1" in label] == ["layernorm, auto, seed 1, step sizes x1"]


def test_a_failed_scale_is_not_chosen(plan: Plan, tmp_path: Path) -> None:
    _run(plan, tmp_path, FakeExecutor(tmp_path, broken=lambda cell: cell.scale == 1.0))
    assert set(choices(plan, tmp_path).values()) == {0.5}


def test_a_run_that_says_it_completed_but_left_half_of_it_has_failed(plan: Plan, tmp_path: Path) -> None:
    def execute(cell: Cell) -> Outcome:
        CellDirectory(tmp_path, cell).run.mkdir(parents=True)
        return Outcome("", 1.0)

    watch = Silent()
    StudyRunner(plan, tmp_path, execute, watch).run()
    assert {reason for _, reason, _ in watch.ends} == {"the run ended without a complete result"}


@pytest.mark.parametrize("damage", ["config", "summary", "version"])
def test_half_a_run_is_removed_and_run_again(plan: Plan, tmp_path: Path, damage: str) -> None:
    _run(plan, tmp_path, FakeExecutor(tmp_path))
    run = CellDirectory(tmp_path, plan.first()[1]).run
    if damage == "summary":
        (run / "summary.json").write_text('{"results":')
    else:
        text = (run / "config.toml").read_text()
        old, new = (
            ("rounds = 2", "rounds = 3") if damage == "config" else ("[versions]\nfedmedpeft = ", "[versions]\nx = ")
        )
        (run / "config.toml").write_text(text.replace(old, new))
        assert (run / "config.toml").read_text() != text
    again = FakeExecutor(tmp_path)
    _run(plan, tmp_path, again)
    assert again.executed == [plan.first()[1].label]


def test_a_changed_study_keeps_what_is_unchanged(plan: Plan, tiny_backbone: Path, tmp_path: Path) -> None:
    _run(plan, tmp_path, FakeExecutor(tmp_path))
    more = make_plan(study(tiny_backbone, methods=["layernorm", "bitfit"], seeds=[0, 1, 2]))
    execute = FakeExecutor(tmp_path)
    _run(more, tmp_path, execute)
    assert sorted(execute.executed) == [
        "bitfit, auto, seed 0, step sizes x0.5",
        "bitfit, auto, seed 0, step sizes x1",
        "bitfit, auto, seed 1, step sizes x1",
        "bitfit, auto, seed 2, step sizes x1",
        "layernorm, auto, seed 2, step sizes x1",
    ]


def test_a_study_that_was_moved_keeps_its_cells(plan: Plan, tmp_path: Path) -> None:
    _run(plan, tmp_path / "here", FakeExecutor(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    execute = FakeExecutor(tmp_path / "there")
    _run(plan, tmp_path / "there", execute)
    assert execute.executed == []


def test_as_many_at_once_as_asked(plan: Plan, tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=20)
    execute = FakeExecutor(tmp_path)

    def meet(cell: Cell) -> Outcome:
        together.wait()
        return execute(cell)

    StudyRunner(plan, tmp_path, meet, Silent(), parallel=2).run()
    assert len(execute.executed) == 6


def test_ctrl_c_keeps_what_is_finished_and_calls_nothing_a_failure(plan: Plan, tmp_path: Path) -> None:
    execute, stopped = FakeExecutor(tmp_path), threading.Event()

    def interrupted(cell: Cell) -> Outcome:
        if len(execute.executed) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            assert stopped.wait(20)
            return Outcome("killed", 1.0)
        return execute(cell)

    # A background job of a shell starts with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            StudyRunner(plan, tmp_path, interrupted, Silent(), stop=stopped.set).run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert [CellDirectory(tmp_path, cell).state() for cell in plan.first()] == [
        "completed",
        "completed",
        "open",
        "open",
    ]
    _run(plan, tmp_path, execute)
    assert len(execute.executed) == 6


def _stuck_in_the_fourth(plan: Plan, out: Path) -> None:
    execute = FakeExecutor(out)

    def slow(cell: Cell) -> Outcome:
        if len(execute.executed) == 3:
            CellDirectory(out, cell).run.mkdir(parents=True)
            (out / "half").touch()
            time.sleep(600)
        return execute(cell)

    StudyRunner(plan, out, slow, Silent()).run()


def test_kill_9_in_the_middle_and_on_from_there(plan: Plan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = multiprocessing.get_context("fork").Process(target=_stuck_in_the_fourth, args=(plan, out))
    process.start()
    deadline = time.monotonic() + 60
    while not (out / "half").exists():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(ConfigError, match="another process"):
        _run(plan, out, FakeExecutor(out))
    process.kill()
    process.join()
    execute = FakeExecutor(out)
    _run(plan, out, execute)
    assert len(execute.executed) == 3
    assert {CellDirectory(out, cell).state() for cell in plan.first()} == {"completed"}


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", wait=False), pytest.raises(BlockingIOError), locked(tmp_path / "lock", wait=False):
        pass
    with locked(tmp_path / "lock", wait=False):
        pass


def test_a_note_of_another_configuration_does_not_count(plan: Plan, tmp_path: Path) -> None:
    directory = CellDirectory(tmp_path, plan.first()[0])
    directory.record(Outcome("failed", 3.0))
    assert directory.state() == "failed"
    note = directory.notes / "outcome.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"key": "another"}))
    assert (directory.state(), directory.outcome()) == ("open", Outcome())
