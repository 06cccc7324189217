"""Processes that do not end, and do not answer either: real ones, stopped by a signal."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.supervision import AFTER_HANG, Child, child, supervisor, watch
from fedmedpeft.supervision.child import CANNOT_END, Running
from fedmedpeft.supervision.leftovers import wait_until
from fedmedpeft.supervision.watch import Watch
from tests.supervised import Supervised

_BEATS = f'echo "after hang: ${AFTER_HANG}"; while :; do echo x >> beats; sleep 0.02; done'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PAUSES", (0.0,))
    monkeypatch.setattr(supervisor, "_TICK", 0.01)
    monkeypatch.setattr(watch, "_UNTIL_READY", 0.01)
    monkeypatch.setattr(watch, "_PAUSE", 0.1)


def _answers(folder: Path) -> Callable[[], bool]:
    """Whether the child did something since the last question."""
    seen = [0]

    def ready() -> bool:
        size = (folder / "beats").stat().st_size if (folder / "beats").exists() else 0
        before, seen[0] = seen[0], size
        return size > before

    return ready


def _child(folder: Path, name: str = "worker", script: str = _BEATS, **options: Any) -> Child:
    command = ("sh", "-c", script)
    return Child(name, command, {"PATH": os.environ["PATH"]}, folder, folder / f"{name}.log", notice=str, **options)


def test_one_that_stops_answering_is_killed_said_and_started_again(tmp_path: Path) -> None:
    watched = Supervised(tmp_path, _child(tmp_path, ready=_answers(tmp_path), hung_after=1.0))

    def act() -> None:
        watched.until("worker: up", "worker: after hang: ")
        first = watched.of("worker")["pid"]
        os.kill(first, signal.SIGSTOP)
        watched.until("worker: did not answer for 1 s, and was ended. Next try in 0 s.", "worker: after hang: 1")
        watched.until_often("worker: up", 2)
        told = watched.of("worker")
        assert told["restarts"] == 1
        assert told["pid"] != first
        assert told["ended"]["why"] == "did not answer for 1 s, and was ended"
        assert time.time() - 60 < told["ended"]["at"] <= time.time()
        # That one was ready: the next end has nothing to do with the hang.
        os.kill(told["pid"], signal.SIGKILL)
        watched.until_often("worker: after hang: ", 2)

    watched.run(act)


def test_one_that_nobody_watches_stays(tmp_path: Path) -> None:
    watched = Supervised(tmp_path, _child(tmp_path, ready=_answers(tmp_path), farewell=0.1))

    def act() -> None:
        watched.until("worker: up")
        os.kill(watched.of("worker")["pid"], signal.SIGSTOP)
        time.sleep(0.6)
        assert watched.of("worker")["restarts"] == 0

    watched.run(act)


def test_a_question_or_a_task_that_takes_for_ever_holds_nobody_up(tmp_path: Path) -> None:
    """The loop goes on: another child that ends is started again, and the end comes when it is asked for."""
    never = threading.Event()

    def work() -> None:
        never.wait(60.0)

    asks = _child(tmp_path, "asks", ready=lambda: never.wait(60.0))
    ready = _child(tmp_path, "ready", when_ready=work)
    ends = _child(tmp_path, "ends", "exit 3")
    watched = Supervised(tmp_path, ready, ends, asks)
    began = time.monotonic()
    watched.run(lambda: watched.until("ready: up", "ends: ended (exit code 3). Next try in 0 s."))
    assert time.monotonic() - began < 15.0
    never.set()


def test_a_machine_that_was_paused_is_no_hang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, answers, asked = [0.0], [True], threading.Semaphore(0)

    def ready() -> bool:
        asked.release()
        return answers[0]

    monkeypatch.setattr(watch, "_PAUSE", 0.01)
    under_test = Watch(_child(tmp_path, ready=ready, hung_after=60.0), lambda: clock[0])

    def looks(count: int) -> None:
        for _ in range(count):
            assert asked.acquire(timeout=10.0)

    looks(3)
    answers[0] = False
    clock[0] += 10_000.0
    looks(3)
    assert 0.0 < under_test.silent <= 15.0
    assert not under_test.hung
    for _ in range(5):
        clock[0] += 14.0
        looks(3)
    assert under_test.hung
    answers[0] = True
    looks(3)
    assert under_test.silent == 0.0
    under_test.end()


def test_a_question_that_fails_is_no_answer(tmp_path: Path) -> None:
    asked = threading.Semaphore(0)

    def ready() -> bool:
        asked.release()
        raise ValueError("unforeseen")

    under_test = Watch(_child(tmp_path, ready=ready, hung_after=1.0))
    for _ in range(3):
        assert asked.acquire(timeout=10.0)
    assert not under_test.ready
    under_test.end()


def test_one_that_cannot_be_ended_is_said_and_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for a dead disk takes no signal; here the signal is not sent."""
    sent, kill = threading.Event(), Running.kill

    def lost(running: Running) -> None:
        if sent.is_set() or running.child.name != "worker":
            kill(running)

    monkeypatch.setattr(Running, "kill", lost)
    monkeypatch.setattr(supervisor, "INSISTENCE", 0.2)
    monkeypatch.setattr(child, "INSISTENCE", 0.2)
    other = _child(tmp_path, "ends", "exit 3")
    watched = Supervised(tmp_path, _child(tmp_path, ready=_answers(tmp_path), hung_after=0.5, farewell=0.1), other)
    stopped: list[int] = []

    def act() -> None:
        watched.until("worker: up")
        stopped.append(watched.of("worker")["pid"])
        os.kill(stopped[0], signal.SIGSTOP)
        watched.until(f"worker: did not answer for 0.5 s; {CANNOT_END}")
        assert wait_until(lambda: watched.of("worker")["said"].endswith(CANNOT_END), 5.0)
        assert watched.of("worker")["restarts"] == 0
        ends = watched.of("ends")["restarts"]
        assert wait_until(lambda: watched.of("ends")["restarts"] > ends, 10.0)
        sent.set()
        os.kill(stopped[0], signal.SIGKILL)
        watched.until("worker: did not answer for 0.5 s, and was ended. Next try in 0 s.", "worker: after hang: 1")
        sent.clear()
        stopped.append(watched.of("worker")["pid"])
        os.kill(stopped[1], signal.SIGSTOP)

    watched.run(act)
    # The supervisor has ended all the same, and says who has not.
    assert watched.said[-1] == f"worker: {CANNOT_END}."
    os.killpg(stopped[1], signal.SIGKILL)
