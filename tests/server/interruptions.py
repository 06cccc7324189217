"""Runs that are cut off at any point, by an exception or by kill -9, and what a run leaves behind, to be compared."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from safetensors.torch import load_file, save_file

from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import flower as wire
from server.aggregation import Aggregator
from server.federation import run_federation
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script


class Cut(BaseException):
    """The run ends here, as by Ctrl-C: no handler for errors holds it up."""


@dataclass
class Cutter:
    """Counts events and ends the run at one of them.

    Args:
        at: number of the event; None: none of them.
        how: what ends the run.
        events: names of those that have happened.
    """

    at: int | None
    how: Callable[[], None]
    events: list[str]

    def event(self, name: str) -> None:
        self.events.append(name)
        if self.at == len(self.events) - 1:
            self.how()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Messages, aggregation, and the moment in each writing in which only the temporary file is there."""
        fsync, push, aggregate = os.fsync, LocalGrid.push_messages, Aggregator.aggregate

        def around(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def watched(*arguments: Any) -> Any:
                self.event(f"before {name}")
                result = call(*arguments)
                self.event(f"after {name}")
                return result

            return watched

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda handle: (fsync(handle), self.event("writing")))
            patch.setattr(LocalGrid, "push_messages", around("sending", push))
            patch.setattr(Aggregator, "aggregate", around("aggregating", aggregate))
            yield


class LastingSite:
    """A site that outlives the server: on disk is what it keeps, and each request, which must come again as it was."""

    def __init__(self, site: script.ScriptedSite, folder: Path, strict: bool) -> None:
        self.site, self.folder, self.strict = site, folder / site.name, strict
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, message: Message, context: Context) -> Message | None:
        if message.metadata.message_type != wire.VISIT:
            return self.site(message, context)
        request = wire.pack(message.content)
        round_ = wire.decode_visit_request(message.content).round
        file, store = self.folder / f"round-{round_}.request", self.folder / f"before-{round_}.safetensors"
        before = self.folder / f"before-{round_ + 1}.safetensors"
        if self.strict and file.is_file():
            assert file.read_bytes() == request, f"round {round_} is asked for otherwise than before"
        file.write_bytes(request)
        self.site.store = load_file(store) if store.is_file() else {}
        reply = self.site(message, context)
        save_file(self.site.store, before)
        return reply


def lasting_sites(config: RunConfig, folder: Path, count: int = 3, strict: bool = True) -> list[LastingSite]:
    """``site-0``, ``site-1``, ...; their training differs from round to round, and ``site-1`` fails in round 1."""
    sites = []
    for index, site in enumerate(script.federation_of(config, count).values()):
        site.step = 0.013 * (index + 1)
        site.twists = {round_: script.with_vectors(_wandering(index, round_)) for round_ in range(1, config.rounds + 1)}
        if index == 1:
            site.twists[1] = script.raising
        sites.append(LastingSite(site, folder, strict))
    return sites


def _wandering(site: int, round_: int) -> Callable[[str, np.ndarray], np.ndarray]:
    def change(part: str, vector: np.ndarray) -> np.ndarray:
        generator = np.random.default_rng([site, round_, len(part)])
        return vector + 0.01 * generator.standard_normal(len(vector)).astype(np.float32)

    return change


def run(config: RunConfig, sites: list[Any], first_node: int = 11, say: Callable[[str], None] | None = None) -> Path:
    """Run ``config`` over ``sites`` at nodes ``first_node``, ..."""
    grid = LocalGrid({first_node + index: site for index, site in enumerate(sites)})
    return run_federation(config, grid, say or (lambda line: None)).path


def killed(work: Callable[[], object]) -> int:
    """Do ``work`` in a process of its own; the signal that ended it, 0 if none did."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def kill_9() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def cut() -> None:
    raise Cut


def left_behind(path: Path) -> dict[str, Any]:
    """All of a run that must not depend on whether it was cut off: times do, and bytes of sites that joined again."""
    summary = json.loads((path / "summary.json").read_text())
    phases = summary.pop("traffic")["phases"]
    return {
        "adapter": (path / "adapter" / "fedmedpeft_adapter.safetensors").read_bytes(),
        "adapter.json": (path / "adapter" / "fedmedpeft_adapter.json").read_text(),
        "rounds": _without_seconds(path / "rounds.csv"),
        "sites": _without_seconds(path / "sites.csv"),
        "references": (path / "references.csv").read_text() if (path / "references.csv").is_file() else "",
        "summary": summary,
        "phases": {name: traffic for name, traffic in phases.items() if name != "join again"},
    }


def _without_seconds(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
