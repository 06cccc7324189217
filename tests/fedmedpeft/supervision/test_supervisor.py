from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmedpeft.supervision import Account, Child, Ending, Supervisor, supervisor
from fedmedpeft.supervision.child import SECRET, Running
from fedmedpeft.supervision.leftovers import end_processes, processes_with, wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
NOBODY = Account("nobody", 65534, 65534)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PAUSES", (0.0, 0.05, 0.4))
    monkeypatch.setattr(supervisor, "_TICK", 0.01)


def _child(tmp_path: Path, name: str, script: str, **options: Any) -> Child:
    command = ("sh", "-c", script)
    return Child(name, command, {"PATH": os.environ["PATH"]}, tmp_path, tmp_path / f"{name}.log", **options)


def _run(tmp_path: Path, children: Sequence[Child], until: Callable[[list[str]], bool], **options: Any) -> list[str]:
    """What was said until ``until`` it; then the supervisor is stopped."""
    said: list[str] = []
    under_test = Supervisor(children, said.append, tmp_path / "record.json", **options)

    def stop() -> None:
        wait_until(lambda: until(said), 10.0)
        under_test.stop()

    threading.Thread(target=stop, daemon=True).start()
    under_test.run()
    return said


def test_they_start_in_order_once_those_before_are_ready_and_end_in_reverse(tmp_path: Path) -> None:
    log = tmp_path / "order"
    script = "trap 'echo end-{0} >> order; exit 0' TERM; echo start-{0} >> order; while :; do sleep 0.02; done"
    first = _child(tmp_path, "a", "sleep 0.3; " + script.format("a"), ready=lambda: log.exists())
    second = _child(tmp_path, "b", script.format("b"))
    _run(tmp_path, [first, second], lambda said: log.exists() and "start-b" in log.read_text())
    assert log.read_text().split() == ["start-a", "start-b", "end-b", "end-a"]


def test_one_that_ends_is_started_again_after_longer_and_longer_pauses(tmp_path: Path) -> None:
    child = _child(tmp_path, "worker", "echo 'no memory'; exit 3")
    said = _run(tmp_path, [child], lambda said: sum("ended" in line for line in said) >= 4)
    ends = [line for line in said if "ended" in line]
    assert ends[0] == "worker: ended (exit code 3): no memory. Next try in 0 s."
    assert [line.rsplit("in ", 1)[1] for line in ends[:4]] == ["0 s.", "0.05 s.", "0.4 s.", "0.4 s."]


def test_one_that_ran_for_long_is_as_good_as_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_WELL", 0.0)
    said = _run(tmp_path, [_child(tmp_path, "a", "exit 1")], lambda said: len(said) >= 6)
    assert all("Next try in 0 s" in line for line in said if "ended" in line)


def test_an_explanation_may_ask_for_its_own_pause(tmp_path: Path) -> None:
    def explain(code: int, tail: Sequence[str]) -> Ending:
        return Ending(f"the key is wrong {code} {tail}", 60.0)

    child = _child(tmp_path, "node", "echo tail; exit 1", explain=explain)
    said = _run(tmp_path, [child], lambda said: any("Next try" in line for line in said))
    assert said[-1] == "node: the key is wrong 1 ['tail']. Next try in 60 s."


def test_once_ends_all_and_says_so_in_the_exit_code(tmp_path: Path) -> None:
    said: list[str] = []
    stays = _child(tmp_path, "stays", "while :; do sleep 0.02; done")
    ends = _child(tmp_path, "ends", "exit 2")
    assert Supervisor([stays, ends], said.append, tmp_path / "record.json", once=True).run() == 1
    assert said[-1] == "ends: ended (exit code 2)."
    assert not (tmp_path / "record.json").exists()


def test_a_program_that_is_not_there_is_tried_again(tmp_path: Path) -> None:
    child = replace(_child(tmp_path, "a", ""), command=("no-such-program",))
    said = _run(tmp_path, [child], lambda said: len(said) >= 2)
    assert "a: cannot be started" in said[0]
    assert "no-such-program" in said[0]


def test_a_second_request_does_not_wait(tmp_path: Path) -> None:
    child = _child(tmp_path, "a", "trap '' TERM; echo up; while :; do sleep 0.02; done", farewell=60.0, notice=str)
    said: list[str] = []
    under_test = Supervisor([child], said.append, tmp_path / "record.json")

    def stop_twice() -> None:
        wait_until(lambda: "a: up" in said[1:], 10.0)
        under_test.stop()
        time.sleep(0.3)
        under_test.stop()

    threading.Thread(target=stop_twice, daemon=True).start()
    began = time.monotonic()
    under_test.run()
    assert 0.3 < time.monotonic() - began < 10.0


def test_the_record_tells_who_runs(tmp_path: Path) -> None:
    record, seen = tmp_path / "record.json", {}

    def noticed(said: list[str]) -> bool:
        if record.exists() and "a: connected" in said:
            seen.update(json.loads(record.read_text()))
        return seen.get("children", {}).get("a", {}).get("said") == "connected"

    script = "echo noise; echo NODE; while :; do sleep 0.02; done"
    _run(
        tmp_path, [_child(tmp_path, "a", script, notice=lambda line: "connected" if "NODE" in line else None)], noticed
    )
    assert seen["pid"] == os.getpid()
    assert seen["children"]["a"]["restarts"] == 0
    assert seen["children"]["a"]["pid"] > 0
    assert not record.exists()


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    script = "(trap '' TERM; while :; do sleep 0.05; done) & echo up; exit 1"
    running = Running(replace(_child(tmp_path, "a", script), environment={**os.environ, "MARK": str(tmp_path)}), print)
    assert wait_until(lambda: running.ended() is not None, 10.0)
    running.ending()
    assert wait_until(lambda: not processes_with(f"MARK={tmp_path}"), 5.0)


def test_its_log_is_private_and_has_times_and_no_colours(tmp_path: Path) -> None:
    running = Running(_child(tmp_path, "a", r"printf '\033[92mINFO\033[0m: hello\n'"), print)
    wait_until(lambda: running.ended() is not None, 10.0)
    running.ending()
    assert (tmp_path / "a.log").read_text().endswith(" INFO: hello\n")
    assert (tmp_path / "a.log").read_text().startswith("20")
    assert stat.S_IMODE((tmp_path / "a.log").stat().st_mode) == 0o600


def test_a_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedmedpeft.supervision import log_pump

    monkeypatch.setattr(log_pump, "_BYTES", 2000)
    monkeypatch.setattr(log_pump, "_FILES", 2)
    running = Running(_child(tmp_path, "a", "seq 1 500"), print)
    wait_until(lambda: running.ended() is not None, 10.0)
    assert running.ending().sentence.endswith(": 500")
    files = sorted(tmp_path.glob("a.log*"))
    assert [file.name for file in files] == ["a.log", "a.log.1", "a.log.2"]
    assert all(file.stat().st_size <= 2000 and stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def _secret_child(tmp_path: Path, account: Account | None) -> Child:
    secret = tmp_path / "secret"
    secret.write_text("the key")
    secret.chmod(0o600)
    command = ("sh", "-c", 'cat "$1"; echo; cat "$1"; echo "then nothing"; cat "$2" 2>&1', "sh", SECRET, str(secret))
    log = tmp_path / "a.log"
    return Child("a", command, {"PATH": os.environ["PATH"]}, Path("/"), log, account=account, secret=secret)


@pytest.mark.parametrize("account", [None, pytest.param(NOBODY, marks=needs_root)])
def test_a_secret_is_read_through_a_pipe_and_only_once(tmp_path: Path, account: Account | None) -> None:
    running = Running(_secret_child(tmp_path, account), print)
    wait_until(lambda: running.ended() is not None, 10.0)
    running.ending()
    lines = [line.partition(" ")[2].partition(" ")[2] for line in (tmp_path / "a.log").read_text().splitlines()]
    assert lines[:2] == ["the key", "then nothing"]
    if account is not None:
        assert "Permission denied" in lines[2]


def test_leftovers_that_take_no_hint_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedmedpeft.supervision import leftovers

    monkeypatch.setattr(leftovers, "_INSISTENCE", 0.5)
    marked = replace(_child(tmp_path, "a", "trap '' TERM; echo up; while :; do sleep 0.05; done", notice=str))
    said: list[str] = []
    running = Running(replace(marked, environment={**marked.environment, "MARK": str(tmp_path)}), said.append)
    wait_until(lambda: said == ["up"], 10.0)
    end_processes(lambda: processes_with(f"MARK={tmp_path}") if running.ended() is None else [], 0.0)
    assert running.ended() == -9
    running.ending()
