"""A federation of real processes over TLS on loopback, as a test sees it and harms it."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w
import yaml

from clients.audit_log.audit_log import read_log
from clients.processes.start_command import RECORD
from clients.site_file import SiteFile
from server.processes.control import is_healthy
from simulations.poc.company import Company, Operated
from simulations.poc.plan import RUN
from simulations.poc.signs import known_sites
from simulations.poc.stage import Stage, set_up
from simulations.poc.teller import Teller
from tests.deployment.hospitals import NAMES, plan_of, write_images

_WAIT = 300.0
_SHORTEST, _MARGIN = 25.0, 2.0


class Trial:
    """One federation, and the commands that its people gave."""

    def __init__(self, stage: Stage, company: Company, teller: Teller) -> None:
        self.stage, self.company, self.say = stage, company, teller.say
        self.sites: dict[str, Operated] = {}

    def start_server(self) -> Operated:
        kit = self.stage.server
        server = self.company.start("server", "server", "start", "--kit", str(kit.directory))
        everyone = set(self.stage.sites)
        self.until("the server is up", lambda: is_healthy(kit) and everyone <= set(known_sites(kit)), pause=1.0)
        return server

    def start_site(self, name: str) -> None:
        arguments = ("site", "start", str(self.stage.sites[name]), "--grace", "2")
        self.sites[name] = self.company.start(name, *arguments)

    def start_sites(self, *names: str) -> float:
        """Start them, and wait until all are online. Returns seconds that a round of theirs may well take.

        What starts them is what a round consists of: processes that import much. A machine that is slow, or busy with
        something else, is so at both.
        """
        began = time.monotonic()
        for name in names:
            self.start_site(name)
        self.until_online(*names)
        return max(_SHORTEST, _MARGIN * (time.monotonic() - began))

    def until_online(self, *names: str) -> None:
        """As the server sees it."""

        def online() -> bool:
            known = known_sites(self.stage.server)
            return all(known.get(name) == "online" for name in names)

        self.until(f"{', '.join(names)} are online", online, pause=1.0)

    def kill_site(self, name: str) -> None:
        """All of its processes at once, as a power failure would."""
        self.company.kill_site(name, self.sites[name])
        self.say(f"=== kill -9 of all of {name}")

    def submit(self, resume: str = "", **keys: Any) -> Operated:
        """Hand in the run, with other values for some keys of its configuration."""
        run = self.stage.run
        config = tomllib.loads(run.read_text(encoding="utf-8"))
        run.write_text(tomli_w.dumps(config | {key.replace("_", "-"): value for key, value in keys.items()}))
        more = ("--resume", resume) if resume else ()
        kit = str(self.stage.server.directory)
        return self.company.start("coordinator", "server", "submit", str(run), "--kit", kit, "--follow", *more)

    def finish(self, run: Operated) -> None:
        """Wait for the end of a run, which must be a good one."""
        self.until("the end of the run", lambda: run.ended() is not None, 3 * _WAIT)
        assert run.finish() == 0, run.lines[-20:]

    # What can be seen.

    def site(self, name: str) -> SiteFile:
        return self.stage.site(name)

    def noted(self, name: str, kind: str, **fields: object) -> list[Any]:
        """Lines of a site's audit log; it must verify."""
        path = self.site(name).audit_log
        entries = read_log(path).entries if path.is_file() else ()
        of_kind = (entry for entry in entries if entry.kind == kind)
        return [entry for entry in of_kind if all(getattr(entry, key) == value for key, value in fields.items())]

    def visited(self, name: str, kind: str, round_: int) -> list[Any]:
        return self.noted(name, kind, request="visit", round=round_)

    def until_noted(self, name: str, kind: str, round_: int) -> None:
        """Wait for a line of a site's audit log about its visit of a round."""
        self.until(f"{name} notes '{kind}' of round {round_}", lambda: bool(self.visited(name, kind, round_)))

    def run_directory(self, run: str = RUN) -> Path:
        return self.stage.server.runs / run

    def outcomes(self, run: str = RUN) -> dict[tuple[int, str], str]:
        """(round, site) -> outcome, as far as the server has written them down."""
        with (self.run_directory(run) / "sites.csv").open(encoding="utf-8", newline="") as file:
            return {(int(row["round"]), row["site"]): row["outcome"] for row in csv.DictReader(file)}

    def until(self, what: str, sign: Callable[[], bool], seconds: float = _WAIT, pause: float = 0.1) -> None:
        """Wait for ``sign``, ``what`` says of what."""
        deadline = time.monotonic() + seconds
        while not sign():
            assert time.monotonic() < deadline, f"waited {seconds:g} s until {what}"
            time.sleep(pause)
        self.say(f"=== {what}")

    # What can be done to it.

    def worker(self, name: str) -> int:
        """The process id of a site's worker."""
        record = json.loads((self.site(name).state_directory / RECORD).read_text(encoding="utf-8"))
        return int(record["children"]["worker"]["pid"])

    def signal_worker(self, name: str, sign: signal.Signals) -> None:
        os.kill(self.worker(name), sign)
        self.say(f"=== {sign.name} to the worker of {name}")


@contextmanager
def federation(folder: Path, names: tuple[str, ...], rounds: int, *, stranger: bool = False) -> Iterator[Trial]:
    """Kits and data of the hospitals ``names`` below ``folder``; nothing runs yet, and nothing does afterwards."""
    stage = set_up(plan_of(names, rounds, stranger=stranger), folder)
    for name in names:
        source = write_images(folder / f"hospital-of-{name}", NAMES.index(name))
        edit(stage.sites[name], {"data": {"source": source, "rows-of": ""}})
    with Teller(folder / "trial.log", print) as teller, Company(stage, folder, teller) as company:
        yield Trial(stage, company, teller)


def edit(path: Path, values: Mapping[str, Any]) -> None:
    """Put ``values`` into a site file, section by section."""
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        content[key] = {**content[key], **value} if isinstance(value, Mapping) and key != "backbones" else value
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
