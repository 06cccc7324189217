"""A whole run, of the real workers, whose rounds move only a part."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from clients.simulated_site import SimulatedFederation
from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.portable import load_learner
from simulations.estimate import estimate
from simulations.preflight import plan_federation
from tests.simulations.conftest import SITES, run_in_process, tiny_config

_METHODS = [
    "sba",
    "sba(per_site=true)",
    "sba(persist=false, order=cyclic)",
    "layernorm+sba(norms=true)",
    "lora(factors=rolora)",
]


@pytest.mark.parametrize("method", _METHODS)
def test_a_run_ends_well_and_again_with_the_same_bits(tiny_backbone: Path, tmp_path: Path, method: str) -> None:
    hashes = []
    for place in ("a", "b"):
        config = tiny_config(tiny_backbone, tmp_path / place, method=method, rounds=3, **{"references": "local-only"})
        directory = run_in_process(config)
        saved = read_adapter(directory / "adapter")
        hashes.append(saved.config.state_hash)
        with (directory / "sites.csv").open(newline="") as file:
            assert {row["outcome"] for row in csv.DictReader(file)} == {"joined", "accepted", "evaluated"}
    assert hashes[0] == hashes[1]
    learner = load_learner(directory / "adapter", str(tiny_backbone))
    assert learner.manifest(without=config.personal_parts) == saved.state.manifest


def test_only_drawn_blocks_differ_from_the_backbone_s(tiny_backbone: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_backbone, tmp_path, method="sba(order=cyclic)", rounds=1, references="none")
    state = read_adapter(run_in_process(config) / "adapter").state.tensors()
    initial = SimulatedFederation(config, SITES).initial.tensors()
    moved = {name for name in state if not np.array_equal(state[name], initial[name])}
    assert {name for name in moved if name.startswith("blocks.0.")} >= {"blocks.0.q.weight", "blocks.0.o.bias"}
    assert not {name for name in moved if name.startswith("blocks.1.")}


@pytest.mark.parametrize(("rounds", "moved"), [(1, {"lora_B"}), (2, {"lora_A", "lora_B"})])
def test_b_moves_in_the_first_round_and_a_in_the_second(
    tiny_backbone: Path, tmp_path: Path, rounds: int, moved: set[str]
) -> None:
    method = "lora(factors=rolora)"
    config = tiny_config(tiny_backbone, tmp_path, method=method, rounds=rounds, sites=2, references="none")
    state = read_adapter(run_in_process(config) / "adapter").state.tensors()
    initial = SimulatedFederation(config, 2).initial.tensors()
    factors = {
        name for name in state if not name.startswith("head.") and not np.array_equal(state[name], initial[name])
    }
    assert {name.rpartition(".")[2] for name in factors} == moved


def test_factors_by_turns_halve_what_moves(tiny_backbone: Path, tmp_path: Path) -> None:
    """All of B or all of A in a round, of the same size here; the estimate knows it."""
    sent = []
    for factors in ("both", "rolora", "ffa"):
        method = f"lora(factors={factors})"
        config = tiny_config(tiny_backbone, tmp_path / factors, method=method, rounds=4, references="none")
        measured = json.loads((run_in_process(config) / "summary.json").read_text())["traffic"]["phases"]["rounds"]
        expected = estimate(plan_federation(config)).phases["rounds"]
        assert (expected.up, expected.down) == pytest.approx((measured["up_bytes"], measured["down_bytes"]), abs=100)
        sent.append(measured["up_bytes"])
    factor = 4 * 3 * 4 * 2 * 2 * 8 * 16  # bytes: rounds, sites, and a float32 for q and v of two blocks of width 16
    assert sent[0] - sent[1] == pytest.approx(factor, rel=0.02)
    assert sent[0] - sent[2] == pytest.approx(factor, rel=0.02)


def test_it_moves_less_than_attention_whole_in_every_round(tiny_backbone: Path, tmp_path: Path) -> None:
    def up(method: str) -> int:
        config = tiny_config(tiny_backbone, tmp_path / str(len(method)), method=method, rounds=4, references="none")
        measured = json.loads((run_in_process(config) / "summary.json").read_text())["traffic"]["phases"]["rounds"]
        expected = estimate(plan_federation(config)).phases["rounds"]
        assert (expected.up, expected.down) == pytest.approx((measured["up_bytes"], measured["down_bytes"]), abs=100)
        return int(measured["up_bytes"])

    # One of two blocks of width 16, in four rounds of three sites.
    assert up("attention") - up("sba") == pytest.approx(4 * 3 * 4 * 4 * (16 * 16 + 16), rel=0.01)
