from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import PeftState
from server.errors import FederationError
from server.federation import run_federation
from server.joining import Site
from server.rounds import sample_sites
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script
from tests.server.test_quarantine import BAD


def run(config: RunConfig, sites: dict[int, script.ScriptedSite]) -> PeftState:
    """The final global state of a run."""
    directory = run_federation(config, LocalGrid(sites), [].append)
    return read_adapter(directory.path / "adapter").state


def rows(config: RunConfig, filename: str) -> list[dict[str, str]]:
    with (Path(config.runs_dir) / "run" / filename).open(newline="") as file:
        return list(csv.DictReader(file))


def assert_moved_by(state: PeftState, start: PeftState, step: float) -> None:
    """Every number of ``state`` is that of ``start`` plus ``step``."""
    for part, vector in state.vectors.items():
        np.testing.assert_allclose(vector, start.vectors[part] + step, atol=1e-5)


def test_the_global_state_moves_by_the_weighted_mean_each_round(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=3)
    sites = script.federation_of(config)
    assert_moved_by(run(config, sites), sites[11].initial, 3 * (10 * 1 + 20 * 2 + 30 * 3) / 60)


def test_each_visit_carries_the_state_after_the_round_before(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, strategy="fedprox(mu=0.3)", weighting="uniform")
    sites = script.federation_of(config)
    run(config, sites)
    start = sites[11].initial.vectors["head"]
    visits = sites[12].visits
    assert [visit.round for visit in visits] == [1, 2, 3]
    assert [visit.last for visit in visits] == [False, False, True]
    assert [visit.proximal for visit in visits] == [0.3, 0.3, 0.0]
    for visit in visits:
        np.testing.assert_allclose(visit.state.vectors["head"], start + 2.0 * (visit.round - 1), atol=1e-5)


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_site_does_not_touch_the_global_state_and_is_asked_again(tmp_path: Path, name: str) -> None:
    config = script.run_config(tmp_path, max_norm=1e4)
    sites = script.federation_of(config)
    sites[13].twists[1] = BAD[name][0]
    final = run(config, sites)
    # Round 1 is of the two good sites alone: (10 * 1 + 20 * 2) / 30. In round 2 all three count.
    assert_moved_by(final, sites[11].initial, 5 / 3 + 7 / 3)
    joined, bad, *later = [row["outcome"] for row in rows(config, "sites.csv") if row["site"] == "site-2"]
    assert (joined, later) == ("joined", ["accepted", "evaluated"])
    assert bad != "accepted"
    assert [row["sites_used"] for row in rows(config, "rounds.csv")] == ["3", "2", "3"]


def test_with_too_few_usable_answers_the_state_stays(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, min_sites=3)
    sites = script.federation_of(config)
    sites[12].twists[1] = script.refusing
    assert_moved_by(run(config, sites), sites[11].initial, 7 / 3)
    table = rows(config, "rounds.csv")
    assert table[1]["outcome"] == "not aggregated: 2 usable answers, 3 needed"
    assert (table[1]["sites_used"], table[2]["outcome"]) == ("0", "aggregated")


def test_an_aggregate_that_breaks_the_contract_is_refused(tmp_path: Path) -> None:
    config = script.run_config(
        tmp_path, strategy="fedavgm(lr=1000)", max_norm=1000.0, weighting="uniform", inbound_factor=0.0
    )
    sites = script.federation_of(config)
    with pytest.raises(FederationError, match="nothing was learned"):
        run(config, sites)
    table = rows(config, "rounds.csv")
    assert "ceiling" in table[1]["outcome"]
    assert sites[11].visits[-1].state.vectors["head"].tolist() == sites[11].initial.vectors["head"].tolist()


def test_scores_belong_to_the_state_that_was_evaluated(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=2)
    run(config, script.federation_of(config))
    # The scripted sites score 0.5 + round / 10 at a visit: what came then is the state after the round before.
    table = [(row["round"], float(row["val_balanced_accuracy"])) for row in rows(config, "rounds.csv")]
    assert table == [("0", 0.6), ("1", 0.7), ("2", 0.8)]


def test_a_sampled_share_of_the_sites_is_asked(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, rounds=6, sampling_fraction=0.5)
    sites = script.federation_of(config, 4)
    run(config, sites)
    asked = [sorted(name for name, s in sites.items() if any(v.round == r for v in s.visits)) for r in range(1, 8)]
    assert [len(nodes) for nodes in asked] == [2, 2, 2, 2, 2, 2, 4]
    assert len({tuple(nodes) for nodes in asked[:6]}) > 1


def _sites(count: int) -> list[Site]:
    return [Site(index, f"site-{index}", {}, {}, True) for index in range(count)]


@given(st.integers(1, 20), st.floats(0.01, 1), st.integers(1, 20), st.integers(0, 99), st.integers(1, 99))
def test_sampling(count: int, fraction: float, least: int, seed: int, round_: int) -> None:
    drawn = sample_sites(_sites(count), fraction, least, seed, round_)
    names = [site.name for site in drawn]
    assert len(set(names)) == len(names)
    assert min(count, least) <= len(names) <= count
    assert len(names) >= min(count, fraction * count - 1e-6)
    assert drawn == sample_sites(_sites(count), fraction, least, seed, round_)


def test_sampling_depends_on_seed_and_round() -> None:
    def draws(seed: int) -> list[list[Site]]:
        return [sample_sites(_sites(10), 0.3, 1, seed, round_) for round_ in range(1, 9)]

    assert draws(0) != draws(1)
    assert len({tuple(site.name for site in draw) for draw in draws(0)}) > 1


def test_two_equal_runs_leave_equal_bytes(tmp_path: Path) -> None:
    finished = []
    for name in ("a", "b"):
        config = script.run_config(tmp_path, strategy="fedadam", sampling_fraction=0.5, runs_dir=str(tmp_path / name))
        sites = script.federation_of(config, 4)
        sites[12].twists[2] = script.raising
        run(config, sites)
        finished.append((tmp_path / name / "run" / "adapter" / "fedmedpeft_adapter.safetensors").read_bytes())
    assert finished[0] == finished[1]
