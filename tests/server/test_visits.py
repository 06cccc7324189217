"""Rounds that move only a part: who is sent what, who trains what, and what becomes of it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import PeftState
from fedmedpeft.exchange import flower as wire
from server.federation import run_federation
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script

DEPTH = 4
MEAN = (10 * 1 + 20 * 2 + 30 * 3) / 60
"""What the three scripted sites move together in a round."""


def rotating(tmp_path: Path, method: str = "sba(order=cyclic)", **changes: Any) -> RunConfig:
    backbone = str(script.backbone_directory(tmp_path, DEPTH))
    return script.run_config(tmp_path, backbone=backbone, method=method, **changes)


def run(config: RunConfig, sites: dict[int, script.ScriptedSite]) -> PeftState:
    directory = run_federation(config, LocalGrid(sites), [].append)
    return read_adapter(directory.path / "adapter").state


def rows(config: RunConfig, filename: str) -> list[dict[str, str]]:
    with (Path(config.runs_dir) / "run" / filename).open(newline="") as file:
        return list(csv.DictReader(file))


def moves(state: PeftState, start: PeftState) -> dict[str, float]:
    """How far each block, and the head, has moved; all of a block's numbers must have moved alike."""
    found: dict[str, set[float]] = {}
    for name, values in state.tensors().items():
        key = name.rsplit(".", 2)[0] if name.startswith("blocks") else "head"
        found.setdefault(key, set()).update(np.round(values - start.tensors()[name], 4).ravel().tolist())
    assert all(len(distances) == 1 for distances in found.values())
    return {key: distances.pop() for key, distances in found.items()}


def test_each_round_moves_the_blocks_whose_turn_it_is_and_updates_last(tmp_path: Path) -> None:
    config = rotating(tmp_path, rounds=5)
    sites = script.federation_of(config)
    final = moves(run(config, sites), sites[11].initial)
    expected = {"blocks.0": 2 * MEAN, "blocks.1": MEAN, "blocks.2": MEAN, "blocks.3": MEAN, "head": 5 * MEAN}
    assert final == pytest.approx(expected, abs=1e-3)
    assert [visit.train for visit in sites[12].visits] == [f"blocks.{i}" for i in (0, 1, 2, 3, 0)] + [""]
    assert [row["drawn"] for row in rows(config, "rounds.csv")] == ["", *(f"blocks.{i}" for i in (0, 1, 2, 3, 0))]
    assert {row["drawn"] for row in rows(config, "sites.csv") if row["round"] == "2"} == {"blocks.1"}


def test_a_site_is_sent_what_it_does_not_have(tmp_path: Path) -> None:
    """The start is never sent: all sites vouched for it. After that, what the round before has changed."""
    config = rotating(tmp_path, rounds=4)
    sites = script.federation_of(config)
    run(config, sites)
    assert [visit.sends for visit in sites[11].visits] == ["", "blocks.0", "blocks.1", "blocks.2", "blocks.3"]


@pytest.mark.parametrize("twist", [script.raising, script.silent, script.garbage])
def test_a_site_that_fails_is_sent_all_that_ever_changed(tmp_path: Path, twist: script.Twist) -> None:
    config = rotating(tmp_path, rounds=4)
    sites = script.federation_of(config)
    sites[12].twists[3] = twist
    run(config, sites)
    sent = ["", "blocks.0", "blocks.1", "blocks.0,blocks.1,blocks.2", "blocks.3"]
    assert [visit.sends for visit in sites[12].visits] == sent
    assert [visit.sends for visit in sites[13].visits] == ["", "blocks.0", "blocks.1", "blocks.2", "blocks.3"]
    assert sites[12].wholes[-1].hash() == sites[13].wholes[-1].hash()


def test_a_site_that_lost_its_store_sits_one_round_out(tmp_path: Path) -> None:
    def lose(message: Message, reply: Any) -> Message:
        sites[12].store.clear()
        return script.changed()(message, reply)

    config = rotating(tmp_path, rounds=4)
    sites = script.federation_of(config)
    sites[12].twists[2] = lose
    final = moves(run(config, sites), sites[11].initial)
    outcomes = [row["outcome"] for row in rows(config, "sites.csv") if row["site"] == "site-1"]
    stale = "state: its copy of the global state is stale"
    assert outcomes == ["joined", "accepted", "accepted", stale, "accepted", "evaluated"]
    assert sites[12].visits[3].sends == "blocks.0,blocks.1,blocks.2"
    # Round 3 is of the two others: (10 * 1 + 30 * 3) / 40.
    assert final["blocks.2"] == pytest.approx(2.5, abs=1e-3)
    assert final["blocks.3"] == pytest.approx(MEAN, abs=1e-3)


@pytest.mark.parametrize("options", ["", "per_site=true", "persist=false", "blocks=2, per_site=true, persist=false"])
def test_sampled_sites_put_the_whole_together_whenever_they_are_asked(tmp_path: Path, options: str) -> None:
    config = rotating(tmp_path, f"sba({options})", rounds=8, sampling_fraction=0.5)
    sites = script.federation_of(config, 5)
    final = run(config, sites)
    assert {row["outcome"] for row in rows(config, "sites.csv")} == {"joined", "accepted", "evaluated"}
    assert {site.wholes[-1].hash() for site in sites.values()} == {final.hash()}
    assert {len(site.visits) for site in sites.values()} != {9}


def test_a_block_that_is_not_drawn_goes_back_where_updates_do_not_persist(tmp_path: Path) -> None:
    config = rotating(tmp_path, "sba(order=cyclic, persist=false)", rounds=3)
    sites = script.federation_of(config)
    final = moves(run(config, sites), sites[11].initial)
    expected = {"blocks.0": 0.0, "blocks.1": 0.0, "blocks.2": MEAN, "blocks.3": 0.0, "head": 3 * MEAN}
    assert final == pytest.approx(expected, abs=1e-3)
    # Every round starts from untouched blocks, and the head goes on.
    for number, whole in enumerate(sites[13].wholes[:3]):
        started = dict.fromkeys(expected, 0.0) | {"head": number * MEAN}
        assert moves(whole, sites[11].initial) == pytest.approx(started, abs=1e-3)
    assert [visit.sends for visit in sites[13].visits] == ["", "", "", "blocks.2"]


def test_with_a_draw_for_each_site_a_block_is_averaged_over_those_that_trained_it(tmp_path: Path) -> None:
    config = rotating(tmp_path, "sba(per_site=true)", rounds=1)
    sites = script.federation_of(config)
    final = moves(run(config, sites), sites[11].initial)
    expected = {"head": MEAN}
    for block in (f"blocks.{i}" for i in range(DEPTH)):
        here = [site for site in sites.values() if site.visits[0].train == block]
        images = sum(site.samples for site in here)
        expected[block] = sum(site.step * site.samples for site in here) / images if here else 0.0
    assert final == pytest.approx(expected, abs=1e-3)
    assert len({site.visits[0].train for site in sites.values()}) > 1


def test_an_answer_must_be_of_what_was_asked_for_and_trained(tmp_path: Path) -> None:
    def everything(message: Message, reply: Any) -> Message:
        return script.changed(state=sites[12].wholes[-1].encode())(message, reply)

    config = rotating(tmp_path, rounds=2)
    sites = script.federation_of(config)
    sites[12].twists[1] = everything
    sites[13].step = 0.0
    config = config.model_copy(update={"min_sites": 1})
    final = moves(run(config, sites), sites[11].initial)
    outcomes = {(row["site"], row["round"]): row["outcome"] for row in rows(config, "sites.csv")}
    assert "differs from ours" in outcomes["site-1", "1"]
    assert "untrained" in outcomes["site-2", "1"]
    assert final["blocks.0"] == pytest.approx(1.0, abs=1e-3)


def test_a_part_costs_a_part(tmp_path: Path) -> None:
    """Against the same attention trained whole in every round, on Flower's own encoding."""

    def traffic(blocks: int) -> dict[str, Any]:
        config = rotating(
            tmp_path, f"sba(blocks={blocks})", rounds=6, personalise_steps=0, runs_dir=str(tmp_path / str(blocks))
        )
        run(config, script.federation_of(config))
        summary: dict[str, Any] = json.loads((tmp_path / str(blocks) / "run" / "summary.json").read_text())
        return summary

    part, whole = traffic(1), traffic(DEPTH)
    block = 4 * (8 * 8 + 8)
    assert (part["exchanged_per_round"], part["exchanged_parameters"]) == (block + 18, DEPTH * block + 18)
    assert whole["exchanged_per_round"] == whole["exchanged_parameters"] == part["exchanged_parameters"]
    less = whole["traffic"]["phases"]["rounds"]["up_bytes"] - part["traffic"]["phases"]["rounds"]["up_bytes"]
    # Three sites, six rounds, three blocks less each; framing and the names of the blocks aside.
    assert less == pytest.approx(3 * 6 * (DEPTH - 1) * block * 4, rel=0.01)
    assert part["traffic"]["phases"]["rounds"]["down_bytes"] < whole["traffic"]["phases"]["rounds"]["down_bytes"] / 2


@pytest.mark.parametrize(
    ("method", "strategy", "message"),
    [
        ("sba", "fedavgm", "keeps a memory of every tensor"),
        ("sba", "fedadam", "use fedavg, fedprox, median, trimmed-mean or krum"),
        ("sba", "fedyogi", "memory"),
        ("sba", "fedadagrad", "memory"),
        ("sba(per_site=true)", "krum", "one draw for all sites"),
        ("sba(per_site=true)", "median", "compares sites that train the same"),
        ("sba(per_site=true)", "trimmed-mean", "compares sites that train the same"),
        ("sba(blocks=5)", "fedavg", "the backbone has 4 blocks"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    tmp_path: Path, method: str, strategy: str, message: str
) -> None:
    grid = LocalGrid(script.federation_of(rotating(tmp_path)))
    with pytest.raises(ConfigError, match=message):
        run_federation(rotating(tmp_path, method, strategy=strategy), grid, [].append)
    assert not grid.log
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("strategy", ["fedprox", "median", "trimmed-mean(beta=0.34)", "krum"])
def test_other_strategies_go_with_a_rotation(tmp_path: Path, strategy: str) -> None:
    config = rotating(tmp_path, strategy=strategy, rounds=2)
    sites = script.federation_of(config)
    final = moves(run(config, sites), sites[11].initial)
    assert final["blocks.0"] > 0
    assert final["blocks.2"] == final["blocks.3"] == 0


def test_two_equal_runs_leave_equal_bits(tmp_path: Path) -> None:
    finished = []
    for name in ("a", "b"):
        config = rotating(
            tmp_path, "sba(per_site=true)", sampling_fraction=0.5, rounds=5, runs_dir=str(tmp_path / name)
        )
        sites = script.federation_of(config, 4)
        sites[12].twists[2] = script.raising
        finished.append(run(config, sites).hash())
    assert finished[0] == finished[1]


def test_a_round_without_enough_answers_changes_nothing_that_must_be_sent(tmp_path: Path) -> None:
    config = rotating(tmp_path, rounds=3)
    sites = script.federation_of(config)
    sites[12].twists[1] = sites[13].twists[1] = script.refusing
    final = moves(run(config, sites), sites[11].initial)
    assert final["blocks.0"] == 0
    assert [visit.sends for visit in sites[11].visits] == ["", "", "blocks.1", "blocks.2"]


def test_a_site_that_noises_its_update_pays_for_every_round_in_which_it_is_asked(tmp_path: Path) -> None:
    """Its update was on the way, whatever the rest of its answer was worth."""

    def without_scores(message: Message, reply: Any) -> Message:
        return Message(wire.encode(replace(reply, before={})), reply_to=message)

    kind = "fixed(clip=1000.0, noise=2.0, clip_at=site, noise_at=site)"
    config = script.run_config(tmp_path, client_privacy=kind, weighting="uniform", inbound_factor=0.0, rounds=2)
    sites = script.federation_of(config)
    sites[12].twists[1] = without_scores
    run(config, sites)
    said = json.loads((tmp_path / "runs" / "run" / "summary.json").read_text())["client_privacy"]
    outcomes = {
        row["outcome"] for row in rows(config, "sites.csv") if (row["round"], row["site"]) == ("1", sites[12].name)
    }
    assert outcomes != {"accepted"}
    assert {site["rounds"] for site in said["sites"].values()} == {2}
