"""What privacy of whole sites does not go with."""

from __future__ import annotations

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.methods import Rotation
from fedmedpeft.privacy.client_level import client_level
from server.client_checks import check_client_privacy, check_sites
from server.strategies import build_strategy


def config(**changes: str) -> RunConfig:
    return RunConfig(**{"client_privacy": "fixed", "weighting": "uniform", "inbound_factor": 0.0, **changes})


def test_sites_that_would_refuse_the_noise() -> None:
    with pytest.raises(ConfigError, match="inbound-factor=5"):
        check_client_privacy(
            RunConfig(client_privacy="fixed", weighting="uniform"), build_strategy("fedavg"), Rotation()
        )


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_strategies_that_take_a_mean_are_fine(strategy: str) -> None:
    level = check_client_privacy(config(strategy=strategy), build_strategy(strategy), Rotation())
    assert level == client_level("fixed")


@pytest.mark.parametrize("strategy", ["median", "trimmed-mean", "krum"])
def test_strategies_that_compare_sites_are_refused_by_name(strategy: str) -> None:
    with pytest.raises(ConfigError, match=f"strategy='{strategy}'"):
        check_client_privacy(config(strategy=strategy), build_strategy(strategy), Rotation())
    off = config(strategy=strategy, client_privacy="off", weighting="samples")
    assert check_client_privacy(off, build_strategy(strategy), Rotation(per_site=True)) is None


@pytest.mark.parametrize("weighting", ["samples", "sqrt"])
def test_weights_are_refused_with_the_reason(weighting: str) -> None:
    with pytest.raises(ConfigError, match="share 1 / n.*Set weighting='uniform'"):
        check_client_privacy(config(weighting=weighting), build_strategy("fedavg"), Rotation())


def test_a_draw_for_each_site_is_refused() -> None:
    groups = {"blocks.0": frozenset({"blocks.0.q.a"})}
    with pytest.raises(ConfigError, match="per_site=false"):
        check_client_privacy(config(), build_strategy("fedavg"), Rotation(groups, 1, per_site=True))
    assert check_client_privacy(config(), build_strategy("fedavg"), Rotation(groups, 1)) is not None


def test_one_site_cannot_hide() -> None:
    level = client_level("fixed")
    with pytest.raises(ConfigError, match="needs 2 of them, 1 takes part"):
        check_sites(level, 1)
    check_sites(level, 2)
    check_sites(None, 1)
