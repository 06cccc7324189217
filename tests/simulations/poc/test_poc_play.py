"""The order of what happens, with commands that only pretend."""

from __future__ import annotations

from typing import Any

import pytest

from simulations.poc import play as play_module
from simulations.poc.errors import PocError
from simulations.poc.plan import Plan
from simulations.poc.play import Play
from simulations.poc.stage import Stage
from simulations.poc.teller import Teller


class _Command:
    def __init__(self, who: str, arguments: tuple[str, ...]) -> None:
        self.who, self.arguments, self.lines = who, arguments, ["said something"]
        self.code: int | None = None

    def ended(self) -> int | None:
        return self.code

    def finish(self) -> int:
        assert self.code is not None
        return self.code

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)


class _World:
    """What the signs see; each event moves it on."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.done: list[str] = []
        self.commands: list[_Command] = []
        self.rounds: list[int] = []
        self.known: dict[str, str] = {}
        self.stranger_known = False
        self.run_fails = False

    def start(self, who: str, *arguments: str) -> _Command:
        command = _Command(who, arguments)
        self.commands.append(command)
        self.done.append(f"start {who}" + (" again" if "--resume" in arguments else ""))
        if who == play_module.SERVER:
            self.known = {name: self.known.get(name, "registered") for name in self.plan.sites}
        elif who in self.known:
            self.known[who] = "online"
        elif who == "intruder":
            command.lines.append("supernode: the server does not take this site's key now.")
            self.known |= {"intruder": "online"} if self.stranger_known else {}
        elif "--resume" in arguments or not self.plan.events or self.run_fails:
            command.code = int(self.run_fails)
        return command

    def stop(self, command: _Command) -> None:
        self.done.append(f"stop {command.who}")

    def kill_site(self, name: str, command: _Command) -> int:
        assert command.who == name
        self.done.append(f"kill {name}")
        self.rounds = [1, 0]
        return 4

    def kill_server(self, command: _Command) -> int:
        self.done.append("kill server")
        for command in self.commands:
            if command.who == "coordinator":
                command.code = 1
        return 4


@pytest.fixture
def world(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> _World:
    world = _World(plan)
    monkeypatch.setattr(play_module, "_ROUND", 2.0)
    signs: dict[str, Any] = {
        "is_healthy": lambda kit: True,
        "known_sites": lambda kit: dict(world.known),
        "is_training": lambda site, round_: round_ == 1,
        "answered_rounds": lambda site: {2: ["left"]} if 1 in world.rounds and site.site == plan.sites[0] else {},
        "rounds_saved": lambda folder: world.rounds,
    }
    for name, sign in signs.items():
        monkeypatch.setattr(play_module, name, sign)
    return world


def _play(plan: Plan, stage: Stage, world: _World, teller: Teller) -> Play:
    return Play(plan, stage, world, teller)  # type: ignore[arg-type]


def test_everything_happens_in_its_order(plan: Plan, stage: Stage, world: _World, teller: Teller) -> None:
    play = _play(plan, stage, world, teller)
    play.perform()
    sites = [f"start {name}" for name in plan.sites]
    assert world.done == [
        "start server",
        *sites,
        "start intruder",
        "stop intruder",
        "start coordinator",
        f"kill {plan.victim}",
        f"start {plan.victim}",
        "kill server",
        "start server",
        "start coordinator again",
    ]
    assert world.commands[-1].arguments[-2:] == ("--resume", "poc")
    assert play.notes[1] == [f"{plan.victim} killed while it trained"]
    assert play.notes[2][0].startswith("server killed after")


def test_a_stranger_that_the_server_knows_is_a_failure(plan: Plan, stage: Stage, world: _World, teller: Teller) -> None:
    world.stranger_known = True
    with pytest.raises(PocError, match="should know no stranger"):
        _play(plan, stage, world, teller).perform()


def test_a_run_that_ends_early_is_told_with_its_last_words(
    plan: Plan, stage: Stage, world: _World, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run_fails = True
    monkeypatch.setattr(play_module, "is_training", lambda site, round_: False)
    with pytest.raises(PocError, match="to train, and 'coordinator' ended: said something"):
        _play(plan, stage, world, teller).perform()


def test_a_round_that_was_too_quick_to_be_killed_in_is_said(
    plan: Plan, stage: Stage, world: _World, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play_module, "rounds_saved", lambda folder: [2, 1])
    with pytest.raises(PocError, match="Round 2 was over"):
        _play(plan, stage, world, teller).perform()


def test_what_does_not_come_is_not_waited_for_for_ever(
    plan: Plan, stage: Stage, world: _World, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play_module, "_START", 0.2)
    monkeypatch.setattr(play_module, "is_healthy", lambda kit: False)
    with pytest.raises(PocError, match="Waited 0.2 s for the server's start"):
        _play(plan, stage, world, teller).perform()
