"""What goes wrong at the server, with real processes: `make faults`. Minutes, so not with the other tests."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clients.processes.start_command import RECORD
from fedmedpeft.supervision.child import Running
from server.processes.start_command import server_processes
from server.provisioning.authority import Authority
from server.provisioning.kits import AUTHORITY
from tests.deployment.hospitals import ARCHIVE, PATIENT, write_other_backbone
from tests.deployment.nightly import NIGHTLY
from tests.deployment.server_side import found_in
from tests.deployment.trial import Trial, edit, federation

pytestmark = NIGHTLY

_OF_THE_DAY = ("seconds", "bytes_down", "bytes_up")
_AT_WORK = ("aachen", "basel")


def test_a_server_killed_in_a_round_ends_bit_for_bit_as_if_it_had_not_been(folder: Path) -> None:
    """kill -9 of SuperLink, SuperExec and ServerApp between sending and aggregating. A third site comes meanwhile, too
    late for this run; it takes part in the next one. A fourth has another backbone, and takes part in none."""
    with federation(folder, ("aachen", "basel", "celle", "dresden"), 3) as trial:
        other = str(write_other_backbone(folder / "other"))
        edit(trial.stage.sites["dresden"], {"backbones": {"embedded": other}})
        server = trial.start_server()
        deadline = 3 * trial.start_sites(*_AT_WORK)
        trial.finish(trial.submit(run_name="whole", round_timeout=deadline))

        first = trial.submit(run_name="killed")
        _hold_back(trial, "killed", 2)
        trial.company.kill_server(server)
        # Before it has been silent for so long that it counts as hung.
        trial.signal_worker("aachen", signal.SIGCONT)
        for name in ("celle", "dresden"):
            trial.start_site(name)
        trial.until("the interrupted command has ended", lambda: first.ended() is not None)
        assert first.finish() != 0
        server = trial.start_server()
        trial.until_online("aachen", "basel", "celle", "dresden")
        again = trial.submit(resume="killed", run_name="killed")
        trial.finish(again)

        whole, killed = trial.run_directory("whole"), trial.run_directory("killed")
        assert _bytes_of(whole / "adapter") == _bytes_of(killed / "adapter")
        assert _rows(whole / "rounds.csv") == _rows(killed / "rounds.csv")
        assert _rows(whole / "sites.csv") == _rows(killed / "sites.csv")
        for name in _AT_WORK:
            assert len(trial.noted(name, "trained", run="killed")) == 3
            assert trial.noted(name, "repeated", run="killed", round=2)
        assert not trial.noted("celle", "trained")
        assert again.said("celle: the run began without it")
        assert found_in([PATIENT, ARCHIVE], trial.stage.server.directory, [server, first, again]) == []

        late = trial.submit(run_name="with-celle", rounds=1)
        trial.finish(late)
        outcomes = trial.outcomes("with-celle")
        assert outcomes[1, "celle"] == "accepted"
        assert "fingerprint of its backbone" in outcomes[0, "dresden"]
        assert not trial.noted("dresden", "trained")


def test_a_superlink_that_was_killed_is_started_again_and_the_run_goes_on(folder: Path) -> None:
    """The ServerApp is another process, and lives: nobody needs to resume anything."""
    with federation(folder, _AT_WORK, 2) as trial:
        server = trial.start_server()
        deadline = 4 * trial.start_sites(*_AT_WORK)
        trial.submit(round_timeout=deadline)
        trial.until_noted("basel", "asked", 1)
        record = json.loads((trial.stage.server.state / RECORD).read_text(encoding="utf-8"))
        os.kill(record["children"]["superlink"]["pid"], signal.SIGKILL)
        trial.until("the run is complete", lambda: (trial.run_directory() / "summary.json").is_file(), 600.0)
        assert server.said("superlink: ended")
        assert {outcome for (round_, _), outcome in trial.outcomes().items() if round_ in (1, 2)} == {"accepted"}


def test_an_expired_certificate_keeps_sites_away_until_it_is_renewed(folder: Path) -> None:
    with federation(folder, ("aachen",), 1) as trial:
        kit = trial.stage.server
        before = {name: (kit.directory / name).read_bytes() for name in ("server.crt", "server.key")}
        authority = Authority.load(kit.directory.parent / AUTHORITY)
        expired = authority.sign_server("poc", ("127.0.0.1",), 1, datetime.now(UTC) - timedelta(days=2))
        (kit.directory / "server.crt").write_bytes(expired.chain)
        (kit.directory / "server.key").write_bytes(expired.key)
        refused = trial.company.start("server", "server", "start", "--kit", str(kit.directory))
        trial.until("the server gives up", lambda: refused.ended() is not None)
        assert refused.finish() != 0
        assert refused.said("provision rotate --server")

        # One whose certificate ends while it runs does not notice.
        kit.prepare()
        server = Running(server_processes(kit, os.environ)[0], trial.say)
        try:
            trial.until("it listens", lambda: _listens(kit.port))
            _look_at_expired(trial, str(trial.stage.sites["aachen"]))
        finally:
            server.stop(lambda: 10.0)

        for name, content in before.items():
            (kit.directory / name).write_bytes(content)
        trial.start_server()
        trial.start_sites("aachen")


def _look_at_expired(trial: Trial, site: str) -> None:
    """What a site makes of such a server: preflight and start."""
    check = trial.company.start("aachen", "site", "check", site)
    trial.until("the check is done", lambda: check.ended() is not None)
    assert check.finish() == 1
    assert check.said("certificate, or its authority's, has expired")
    start = trial.company.start("aachen", "site", "start", site, "--once", "--grace", "0")
    trial.until("the site gives up", lambda: start.ended() is not None)
    assert start.finish() == 1
    assert start.said("was not accepted (certificate has expired)")


def _hold_back(trial: Trial, run: str, round_: int) -> None:
    """Let basel answer a round, and aachen not yet."""
    trial.until("aachen is asked", lambda: bool(trial.noted("aachen", "asked", run=run, round=round_)))
    trial.signal_worker("aachen", signal.SIGSTOP)
    trial.until("basel has answered", lambda: bool(trial.noted("basel", "left", run=run, round=round_)))


def _bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob("*.safetensors")}


def _rows(path: Path) -> list[dict[str, str]]:
    """A table without what no two runs have in common: seconds, and what joining again moved."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: row[key] for key in row if key not in _OF_THE_DAY} for row in csv.DictReader(file)]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
