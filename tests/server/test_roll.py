"""Sites of a run that goes on: who comes back, who is missing, and who is no site of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import flower as wire
from server.errors import FederationError
from server.federation import run_federation
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script
from tests.server.test_resume import after_round


class Arriving(LocalGrid):
    """A grid in which some nodes connect only when round ``arrival`` has been sent."""

    def __init__(self, nodes: dict[int, Any], late: dict[int, Any], arrival: int) -> None:
        super().__init__({**nodes, **late})
        self.late, self.arrival, self.there = set(late), str(arrival), False

    def get_node_ids(self) -> list[int]:
        return [node for node in self.nodes if self.there or node not in self.late]

    def push_messages(self, messages: Any) -> Any:
        messages = list(messages)
        self.there |= any(message.metadata.group_id == self.arrival for message in messages)
        return super().push_messages(messages)


def interrupted(tmp_path: Path, **changes: Any) -> RunConfig:
    config = script.run_config(tmp_path, **{"rounds": 3, **changes})
    after_round(config, 1)
    return config.model_copy(update={"resume": "run"})


def outcomes(config: RunConfig, site: str) -> list[str]:
    with (Path(config.runs_dir) / "run" / "sites.csv").open(newline="") as file:
        return [row["outcome"] for row in csv.DictReader(file) if row["site"] == site]


def test_a_missing_site_sits_out_and_comes_back_in_a_later_round(tmp_path: Path) -> None:
    config, said = interrupted(tmp_path), []
    first, second, late = script.federation_of(config).values()
    run_federation(config, Arriving({21: second, 22: first}, {23: late}, arrival=2), said.append)
    missing = "has not come back since the run was interrupted"
    assert outcomes(config, "site-2") == ["joined", "accepted", missing, "accepted", "evaluated"]
    assert late.visits[0].notice == missing
    assert [line for line in said if "Not there yet: site-2." in line]
    assert "  site-2 is back." in said


def test_with_too_few_sites_it_waits_for_another_try(tmp_path: Path) -> None:
    config = interrupted(tmp_path, min_sites=3)
    first, second, third = script.federation_of(config).values()
    with pytest.raises(FederationError, match="2 of the run's 3 sites are there again, 3 are needed; missing: site-0"):
        run_federation(config, LocalGrid({31: second, 32: third}), [].append)
    run_federation(config, LocalGrid({41: second, 42: third, 43: first}), [].append)
    assert outcomes(config, "site-0") == ["joined", "accepted", "accepted", "accepted", "evaluated"]


def test_a_site_that_the_run_began_without_is_not_let_in(tmp_path: Path) -> None:
    config, said = interrupted(tmp_path), []
    nodes = script.federation_of(config, 4)
    run_federation(config, LocalGrid(nodes), said.append)
    assert not nodes[14].visits
    assert "  Node 14 takes no part: site-3: the run began without it" in said
    assert said.count("  Node 14 takes no part: site-3: the run began without it") == 1


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("fingerprint", "0" * 64, "fingerprint of its backbone"),
        ("manifest_hash", "0" * 64, "manifest of its PEFT state"),
        ("state_hash", "0" * 64, "initial PEFT state"),
        ("classes", "benign\nother", "list of classes"),
        ("samples", {"train": 31, "val": 20, "test": 20}, "number of samples"),
        ("partition_hash", "0" * 64, "partition of the data"),
        ("private", "image", "privacy"),
    ],
)
def test_a_site_that_has_changed_is_not_let_in(tmp_path: Path, field: str, value: Any, what: str) -> None:
    config, said = interrupted(tmp_path, rounds=2), []
    nodes = script.federation_of(config)
    nodes[13].twists["join"] = script.changed(**{field: value})
    run_federation(config, LocalGrid(nodes), said.append)
    assert not nodes[13].visits
    assert [line for line in said if line.endswith(f"site-2: it has another {what} than when it joined")]


def test_a_second_node_of_the_same_name_is_not_let_in(tmp_path: Path) -> None:
    config, said = interrupted(tmp_path), []
    nodes = script.federation_of(config)
    impostor = script.federation_of(config)[12]
    run_federation(config, Arriving({11: nodes[11], 12: nodes[12]}, {14: impostor, 15: nodes[13]}, 2), said.append)
    assert not impostor.visits
    assert nodes[13].visits
    assert "  Node 14 takes no part: site-1: site-1 is there already, as another node" in said


def _once(twist: script.Twist) -> script.Twist:
    heard: list[Message] = []

    def first_only(message: Message, reply: Any) -> Message | None:
        heard.append(message)
        return twist(message, reply) if len(heard) == 1 else Message(wire.encode(reply), reply_to=message)

    return first_only


@pytest.mark.parametrize("twist", [script.raising, script.silent, script.refusing])
def test_a_site_that_does_not_answer_at_once_is_asked_again(tmp_path: Path, twist: Callable[..., Any]) -> None:
    config = interrupted(tmp_path)
    nodes = script.federation_of(config)
    nodes[13].twists["join"] = _once(_once(twist))
    run_federation(config, LocalGrid(nodes), [].append)
    assert outcomes(config, "site-2")[1:] == ["accepted", "accepted", "accepted", "evaluated"]


def test_what_it_costs_to_join_again_is_counted_apart(tmp_path: Path) -> None:
    config = interrupted(tmp_path)
    directory = run_federation(config, LocalGrid(script.federation_of(config)), [].append)
    traffic = json.loads((directory.path / "summary.json").read_text())["traffic"]
    again = traffic["phases"]["join again"]
    assert 0 < again["up_bytes"] < traffic["phases"]["join"]["up_bytes"]
    assert traffic["down_bytes"] == sum(phase["down_bytes"] for phase in traffic["phases"].values())


def test_an_initial_state_that_no_site_gives_as_agreed_ends_the_try(tmp_path: Path) -> None:
    config = interrupted(tmp_path, method="sba(persist=false)")
    nodes = script.federation_of(config)
    for site in nodes.values():
        other = replace(site.initial, vectors={part: v + 1 for part, v in site.initial.vectors.items()})
        site.twists["join"] = lambda message, reply, other=other: Message(
            wire.encode(replace(reply, state=other.encode() if reply.state else None)), reply_to=message
        )
    with pytest.raises(FederationError, match="initial PEFT state that all of them vouch for"):
        run_federation(config, LocalGrid(nodes), [].append)
