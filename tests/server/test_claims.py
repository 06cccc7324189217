from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.config import RunConfig
from fedmedpeft.data.decode import MISSING
from fedmedpeft.data.errors import PRIVATE
from fedmedpeft.exchange import ContractError
from server.claims import MOST_SAMPLES, check_samples, check_skipped, out_of_proportion
from server.courier import Courier
from server.errors import FederationError
from server.introductions import Joined, join
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script


def join_all(config: RunConfig, sites: dict[int, script.ScriptedSite]) -> Joined:
    return join(Courier(LocalGrid(sites), config.round_timeout, [].append), config, "run", sorted(sites))


@pytest.mark.parametrize(
    "samples",
    [
        {"train": 10, "val": -1, "test": 0},
        {"train": 10, "val": 0, "test": MOST_SAMPLES + 1},
        {"train": MOST_SAMPLES + 1},
        {"train": -3, "val": 5},
    ],
)
def test_counts_that_no_site_can_have(samples: dict[str, int]) -> None:
    with pytest.raises(ContractError, match="expected 0 to 1,000,000,000"):
        check_samples(samples)


def test_reasons_that_no_site_gives() -> None:
    check_skipped({MISSING: 3, PRIVATE: 1})
    with pytest.raises(ContractError, match="none of the known ones"):
        check_skipped({MISSING: 3, "=HYPERLINK(1)": 1})


def test_no_training_data_is_no_site_and_no_scores_are() -> None:
    with pytest.raises(ContractError, match="no training data"):
        check_samples({"train": 0, "val": 20, "test": 20})
    check_samples({"train": 1, "val": 0, "test": 0})


@pytest.mark.parametrize(
    ("claim", "weighting", "left_out"),
    [
        (20_000, "samples", False),
        (20_001, "samples", True),
        (20_001, "sqrt", False),
        (20_000_001, "sqrt", True),
        (MOST_SAMPLES, "uniform", False),
    ],
)
def test_nobody_may_have_the_mean_to_itself(tmp_path: Path, claim: int, weighting: str, left_out: bool) -> None:
    """The two others have 10 and 30 images: 20 is their median."""
    config = script.run_config(tmp_path, weighting=weighting)
    sites = script.federation_of(config)
    sites[11].samples, sites[12].samples, sites[13].samples = 10, 30, claim
    federation = join_all(config, sites).federation
    assert [left.name for left in federation.left_out] == (["site-2"] if left_out else [])
    assert [site.name for site in federation.sites] == ["site-0", "site-1"] + ["site-2"] * (not left_out)
    if left_out:
        assert str(claim) in federation.left_out[0].reason
        assert "set weighting='uniform'" in federation.left_out[0].reason


def test_of_two_sites_nobody_knows_which_is_odd(tmp_path: Path) -> None:
    config = script.run_config(tmp_path)
    sites = script.federation_of(config, 2)
    sites[12].samples = 10**7
    assert len(join_all(config, sites).federation.sites) == 2


def test_a_small_site_beside_large_ones_is_none_of_this(tmp_path: Path) -> None:
    sites = script.federation_of(script.run_config(tmp_path), 4)
    for site in sites.values():
        site.samples = 10**6
    sites[11].samples = 3
    replies = {node: site._join(send_state=False) for node, site in sites.items()}
    assert out_of_proportion(replies, "samples") == {}


def test_of_a_reference_nothing_is_averaged(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, mode="local-only")
    sites = script.federation_of(config)
    sites[13].samples = 10**8
    assert len(join_all(config, sites).federation.sites) == 3


def test_with_too_few_left_the_error_names_the_claim(tmp_path: Path) -> None:
    config = script.run_config(tmp_path, min_sites=3)
    sites = script.federation_of(config)
    sites[13].samples = 10**8
    with pytest.raises(
        FederationError, match="2 sites can take part, 3 are needed.*site-2: says that it has 100000000"
    ):
        join_all(config, sites)
