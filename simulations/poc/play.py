"""What happens, in order: the server starts, the sites join, and in a run two things go wrong that will."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from server.processes.control import is_healthy
from server.run_state import CHECKPOINTS, rounds_saved
from simulations.poc.company import Company, Operated
from simulations.poc.errors import PocError
from simulations.poc.plan import INTRUDER, RUN, Plan
from simulations.poc.signs import answered_rounds, is_training, known_sites
from simulations.poc.stage import Stage
from simulations.poc.teller import Teller

SERVER = "server"
_COORDINATOR = "coordinator"
_START, _ROUND, _FAREWELL = 180.0, 300.0, 90.0
"""Seconds to wait for a start, for something in a round, and for a command whose server was killed."""
_OFTEN, _SELDOM = 0.1, 1.0
_REFUSED = "does not take this site's key"


@dataclass
class Play:
    """One showing.

    Attributes:
        notes: round -> what happened in it.
    """

    plan: Plan
    stage: Stage
    company: Company
    teller: Teller
    notes: dict[int, list[str]] = field(default_factory=dict)
    _sites: dict[str, Operated] = field(default_factory=dict)

    def perform(self) -> None:
        """All of it.

        Raises:
            PocError: something did not happen that should have.
        """
        server = self._start_server()
        self._start_sites()
        if self.stage.intruder is not None:
            self._turn_away(str(self.stage.intruder))
        run = self._submit()
        if self.plan.events:
            self._lose_a_site(run)
            run = self._lose_the_server(server, run)
        self._await("the run's end", lambda: run.ended() is not None, _ROUND * self.plan.rounds, _SELDOM)
        if run.finish() != 0:
            raise PocError(f"The run did not complete: {_last(run)}")

    def _start_server(self) -> Operated:
        kit = self.stage.server
        server = self.company.start(SERVER, "server", "start", "--kit", str(kit.directory))
        self._await("the server's start", lambda: is_healthy(kit), _START, _SELDOM, server)
        everyone = set(self.plan.sites)
        self._await("registration", lambda: everyone <= set(known_sites(kit)), _START, _SELDOM, server)
        return server

    def _start_sites(self) -> None:
        for name in self.plan.sites:
            self._start_site(name)
        self._await("all sites to be online", lambda: not self._offline(), _START, _SELDOM)
        self.teller.say(f"All {len(self.plan.sites)} sites are online: TLS, and each proved who it is with its key.")

    def _start_site(self, name: str) -> None:
        arguments = ("site", "start", str(self.stage.sites[name]), "--grace", "5")
        self._sites[name] = self.company.start(name, *arguments)

    def _offline(self) -> list[str]:
        known = known_sites(self.stage.server)
        return [name for name in self.plan.sites if known.get(name) != "online"]

    def _turn_away(self, file: str) -> None:
        self.teller.say(f"A stranger knocks: it has the authority's certificate, and '{INTRUDER}' made its own key.")
        intruder = self.company.start(INTRUDER, "site", "start", file, "--grace", "0")
        self._await("the refusal of the stranger", lambda: intruder.said(_REFUSED), _START, _OFTEN, intruder)
        self.company.stop(intruder)
        known = known_sites(self.stage.server)
        if set(known) != set(self.plan.sites):
            raise PocError(f"The server knows the sites {', '.join(sorted(known))}, and should know no stranger.")
        self.teller.say(f"It was turned away; the server knows its {len(known)} sites and nobody else.")

    def _submit(self, *more: str) -> Operated:
        arguments = ("server", "submit", str(self.stage.run), "--kit", str(self.stage.server.directory), "--follow")
        return self.company.start(_COORDINATOR, *arguments, *more)

    def _lose_a_site(self, run: Operated) -> None:
        """Kill it while it trains in round 1, and start it again once the round has ended without it."""
        name = self.plan.victim
        site = self.stage.site(name)
        self._await(f"{name} to train", lambda: is_training(site, 1), _ROUND, _OFTEN, run)
        killed = self.company.kill_site(name, self._sites[name])
        self.teller.say(f"kill -9 of all {killed} processes of {name}, while it trains in round 1.")
        self._note(1, f"{name} killed while it trained")
        self._await("the end of round 1", lambda: 1 in self._rounds_done(), _ROUND, _OFTEN, run)
        self.teller.say(f"Round 1 ended without {name}; it is started again, as after a power failure.")
        self._start_site(name)

    def _lose_the_server(self, server: Operated, run: Operated) -> Operated:
        """Kill it when a first site has answered round 2, start it again, and go on with the run."""
        began = time.monotonic()
        self._await("a first answer of round 2", lambda: bool(self._answered(2)), _ROUND, _OFTEN, run)
        lost = time.monotonic() - began
        if 2 in self._rounds_done():
            raise PocError("Round 2 was over before the server could be killed in it. Try again with more images.")
        killed = self.company.kill_server(server)
        answered = ", ".join(self._answered(2))
        self.teller.say(
            f"kill -9 of all {killed} processes of the server in round 2, between the request and the mean."
        )
        self.teller.say(f"So far answered: {answered}. The server had not put anything together.")
        self._note(2, f"server killed after {lost:.0f} s of it (not counted) and started again")
        self._await("the end of the interrupted command", lambda: run.ended() is not None, _FAREWELL, _OFTEN)
        self._start_server()
        return self._submit("--resume", RUN)

    def _answered(self, round_: int) -> list[str]:
        return [name for name in self.plan.sites if round_ in answered_rounds(self.stage.site(name))]

    def _rounds_done(self) -> list[int]:
        return rounds_saved(self.stage.run_directory / CHECKPOINTS)

    def _note(self, round_: int, words: str) -> None:
        self.notes.setdefault(round_, []).append(words)

    def _await(
        self, what: str, sign: Callable[[], bool], seconds: float, pause: float, needed: Operated | None = None
    ) -> None:
        """Raises PocError where ``sign`` does not come within ``seconds``, or ``needed`` ends before."""
        deadline = time.monotonic() + seconds
        while not sign():
            if needed is not None and needed.ended() is not None:
                needed.finish()
                raise PocError(f"Waited for {what}, and '{needed.who}' ended: {_last(needed)}")
            if time.monotonic() > deadline:
                raise PocError(f"Waited {seconds:g} s for {what}.")
            time.sleep(pause)


def _last(operated: Operated) -> str:
    return next((line.strip() for line in reversed(operated.lines) if line.strip()), "it said nothing")
