"""One federation of real processes through most of what goes wrong at sites, and the server killed in the middle."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

from clients.processes.flower_account import prepare_flower_home
from clients.processes.site_processes import site_processes
from clients.site_file import SiteFile
from fedmedpeft.supervision.child import Running
from fedmedpeft.supervision.leftovers import processes_with
from server.processes.start_command import MARKER as OF_THE_SERVER
from simulations.poc.plan import RUN
from tests.deployment.harm import fill, grant_all_memory, grant_memory, small_disk
from tests.deployment.hospitals import ARCHIVE, PATIENT
from tests.deployment.nightly import NIGHTLY
from tests.deployment.server_side import found_in
from tests.deployment.trial import Trial, edit, federation

pytestmark = NIGHTLY

_LITTLE = 48 * 2**20
"""Bytes: less than a step on 16 images takes, and more than one on a few."""
_NAMES = ("aachen", "basel", "celle", "dresden")
_ROUNDS = 2
_LONG = 120.0


def test_a_run_through_everything_that_goes_wrong(folder: Path) -> None:
    """Round 1: basel's power fails, celle hangs, aachen is short of memory, a stranger knocks.
    Round 2: aachen's worker is killed, dresden's disk is full, celle is back; then the server is killed before it can
    aggregate. The run is resumed, and all take part, basel too.
    """
    with federation(folder, _NAMES, _ROUNDS, stranger=True) as trial:
        edit(trial.stage.sites["celle"], {"privacy": "required(epsilon=8)"})
        with small_disk(trial.site("dresden").folder("runs")) as has_small_disk:
            server = trial.start_server()
            deadline = trial.start_sites(*_NAMES)
            first = trial.submit(round_timeout=deadline)
            _round_1(trial)
            _round_2(trial, has_small_disk)
            again = trial.submit(resume=RUN, round_timeout=_LONG)
            trial.finish(again)
            trial.until("the interrupted command has ended", lambda: first.ended() is not None)
            assert first.finish() == 1
        _look_at_outcomes(trial)
        _look_at_sites(trial, has_small_disk)
        own = [word for name in _NAMES for word in (str(trial.site(name).directory), f"hospital-of-{name}")]
        has = partial(found_in, directory=trial.stage.server.directory, commands=[server, first, again])
        assert has(["celle"]), "the search finds what the server knows"
        assert has([PATIENT, ARCHIVE, *own]) == []


def _round_1(trial: Trial) -> None:
    trial.until("aachen has joined", lambda: bool(trial.noted("aachen", "left", request="join")))
    grant_memory(trial.worker("aachen"), _LITTLE)
    trial.until_noted("basel", "asked", 1)
    trial.kill_site("basel")
    trial.until_noted("celle", "asked", 1)
    trial.signal_worker("celle", signal.SIGSTOP)
    trial.start_site("basel")
    assert "does not take this site's key" in _turned_away(trial)
    trial.until_noted("aachen", "left", 1)
    grant_all_memory(trial.worker("aachen"))
    assert "Out of memory with 16 images at once" in _worker_log(trial, "aachen")
    trial.until("round 1 is over", lambda: (1, "celle") in trial.outcomes())


def _turned_away(trial: Trial) -> str:
    """What a stranger's SuperNode has to say, who has all but a registered key."""
    path = trial.stage.intruder
    assert path is not None
    site = SiteFile.load(path)
    prepare_flower_home(site, None)
    _, node, _ = site_processes(site, path, os.environ, None, 0.0)
    running = Running(node, lambda line: trial.say(line, "stranger"))
    try:
        trial.until("the stranger is turned away", lambda: running.ended() is not None)
        return running.ending().sentence
    finally:
        running.stop(lambda: 0.0)


def _round_2(trial: Trial, has_small_disk: bool) -> None:
    """Until the server is dead. It had not aggregated: aachen's worker is started again only after that."""
    runs = trial.site("dresden").folder("runs")
    filler = fill(runs) if has_small_disk else None
    trial.signal_worker("celle", signal.SIGCONT)
    trial.until_noted("aachen", "asked", 2)
    trial.sites["aachen"].signal(signal.SIGSTOP)
    trial.signal_worker("aachen", signal.SIGKILL)
    trial.until_noted("dresden", "refused" if filler else "left", 2)
    trial.until_noted("celle", "left", 2)
    assert _kill_app_of_the_server(trial) == ["flower-superexec", "flwr-serverapp"]
    assert (2, "celle") not in trial.outcomes()
    trial.sites["aachen"].signal(signal.SIGCONT)
    if filler is not None:
        # What stays of visits, and how many there were; nothing that was not written to its end.
        kept = {path.suffix for path in runs.rglob("*") if path.is_file() and path != filler}
        assert kept == {".safetensors", ".json"}
        filler.unlink()


def _kill_app_of_the_server(trial: Trial) -> list[str]:
    """``kill -9`` of the ServerApp and of what started it; what they were."""
    killed = {}
    for pid in processes_with(f"{OF_THE_SERVER}={trial.stage.server.state}"):
        words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
        program = next((Path(word).name for word in words[:2] if Path(word).name in _APP), None)
        if program is not None:
            killed[pid] = program
            os.kill(pid, signal.SIGKILL)
    trial.say(f"=== kill -9 of {killed}")
    return sorted(killed.values())


_APP = ("flower-superexec", "flwr-serverapp")


def _look_at_outcomes(trial: Trial) -> None:
    """What the server has on record: reasons for who was not there, and all others unharmed."""
    outcomes = trial.outcomes()
    assert outcomes.pop((1, "celle")).startswith("no answer within")
    assert outcomes.pop((1, "basel")).startswith(("no answer within", "Flower error 5"))
    expected = {0: "joined", 1: "accepted", 2: "accepted", 3: "evaluated"}
    assert outcomes == {key: expected[key[0]] for key in outcomes}
    assert {name for _, name in outcomes} == set(_NAMES)
    assert len(outcomes) == 4 * len(_NAMES) - 2


def _look_at_sites(trial: Trial, has_small_disk: bool) -> None:
    """What the sites themselves have on record. (Reading a log verifies it.)"""
    assert len(trial.noted("aachen", "started")) == 2
    assert not trial.noted("aachen", "stopped")
    assert len(trial.visited("aachen", "asked", 2)) >= 2
    for name in ("aachen", "basel", "celle"):
        rounds = [line.round for line in trial.noted(name, "trained")]
        assert len(rounds) == len(set(rounds)), f"{name} trained a round twice: {rounds}"
        assert not trial.noted(name, "refused")
    told = [line.words for line in trial.noted("celle", "notice")]
    assert told[0].startswith("no answer within")
    assert trial.visited("celle", "left", 2)[0].content_hash == trial.visited("celle", "repeated", 2)[0].content_hash
    assert _rounds_paid(trial, "celle") == [1, 2]
    if has_small_disk:
        assert [line.code for line in trial.noted("dresden", "refused")] == ["DISK"]
        assert [line.reason for line in trial.noted("dresden", "refused")] == ["the site's disk is full"]


def _rounds_paid(trial: Trial, name: str) -> list[int]:
    (ledger,) = trial.site(name).folder("ledger").glob("*.jsonl")
    lines = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    return [line["round"] for line in lines if line["kind"] == "spent"]


def _worker_log(trial: Trial, name: str) -> str:
    return (trial.site(name).folder("logs") / "worker.log").read_text(encoding="utf-8")
