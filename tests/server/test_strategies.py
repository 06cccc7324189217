from __future__ import annotations

import pytest
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedProx, Krum

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from server.strategies import STRATEGIES, build_strategy, check_inbound, fewest_sites, proximal_of


def test_options_arrive_in_flowers_strategy() -> None:
    adam = build_strategy("fedadam(lr=0.5, beta1=0.1, beta2=0.2, tau=0.3)")
    assert isinstance(adam, FedAdam)
    assert (adam.eta, adam.beta_1, adam.beta_2, adam.tau) == (0.5, 0.1, 0.2, 0.3)
    momentum = build_strategy("fedavgm(lr=0.5, momentum=0.7)")
    assert isinstance(momentum, FedAvgM)
    assert (momentum.server_learning_rate, momentum.server_momentum) == (0.5, 0.7)
    krum = build_strategy("krum(malicious=2)")
    assert isinstance(krum, Krum)
    assert krum.num_malicious_nodes == 2


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_every_strategy_is_built_with_its_defaults(name: str) -> None:
    assert isinstance(build_strategy(name), FedAvg)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fedavgg", "Did you mean 'fedavg'"),
        ("fedadam(learning_rate=1)", "no option 'learning_rate'"),
        ("trimmed-mean(beta=0.5)", "beta=0.5"),
        ("krum(malicious=-1)", "malicious=-1"),
        ("fedavg(mu=1)", "no option 'mu'"),
    ],
)
def test_a_wrong_specification_says_what_is_wrong(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_strategy(spec)


def test_only_fedprox_pulls_towards_the_global_state() -> None:
    assert isinstance(build_strategy("fedprox"), FedProx)
    assert proximal_of(build_strategy("fedprox(mu=0.3)")) == 0.3
    assert proximal_of(build_strategy("fedavg")) == 0.0


@pytest.mark.parametrize(
    ("spec", "fewest"),
    [
        ("fedavg", 1),
        ("median", 1),
        ("krum", 3),
        ("krum(malicious=1)", 5),
        ("trimmed-mean", 5),
        ("trimmed-mean(beta=0.25)", 4),
        ("trimmed-mean(beta=0.4)", 3),
    ],
)
def test_robust_rules_know_how_many_sites_they_need(spec: str, fewest: int) -> None:
    assert fewest_sites(build_strategy(spec)) == fewest


@pytest.mark.parametrize(
    ("spec", "factor", "needed"),
    [
        ("fedavgm", 5.0, "10"),
        ("fedavgm(lr=2.0)", 19.0, "20"),
        ("fedadam(lr=0.1)", 5.0, "20"),
        ("fedadagrad(lr=0.1)", 5.0, "20"),
    ],
)
def test_what_moves_the_state_further_than_sites_let_it_is_refused_with_the_value_to_set(
    spec: str, factor: float, needed: str
) -> None:
    strategy = build_strategy(spec)
    with pytest.raises(ConfigError, match=rf"{spec.partition('(')[0]}.*Set inbound-factor={needed}:"):
        check_inbound(strategy, factor, spec)
    check_inbound(strategy, float(needed), spec)
    check_inbound(strategy, 0.0, spec)


@pytest.mark.parametrize("spec", ["fedavg", "fedprox", "fedadam", "fedyogi", "fedadagrad", "median", "krum"])
def test_the_default_inbound_factor_is_enough_for_all_others(spec: str) -> None:
    check_inbound(build_strategy(spec), RunConfig().inbound_factor, spec)
