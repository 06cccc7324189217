"""Aggregation strategies by name: Flower's own, with the options that matter here."""

from __future__ import annotations

from itertools import count

from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
)
from flwr.serverapp.strategy.fedopt import FedOpt
from pydantic import Field

from fedmedpeft.components import ComponentSpec, ConfigError, NoOptions, Options, Registry
from fedmedpeft.methods import Rotation

WEIGHT = "weight"
"""Key of a site's weight in the records that Flower's strategies see."""

STRATEGIES: Registry[FedAvg] = Registry("strategy")

_ADAPTIVE_REACH = 200.0
"""How many of a site's own updates an adaptive strategy moves in a round, over its step size ``lr``: the most measured
with the sites' default step sizes was 181 (fedadagrad; fedadam 80)."""


class ProxOptions(Options):
    """``mu``: pull of each site towards the state it was sent (Li et al., MLSys 2020)."""

    mu: float = Field(0.01, ge=0)


class MomentumOptions(Options):
    """Server step size and momentum (Hsu et al., 2019)."""

    lr: float = Field(1.0, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)


class AdaptiveOptions(Options):
    """Server step size and degree of adaptivity (Reddi et al., ICLR 2021)."""

    lr: float = Field(0.01, gt=0)
    tau: float = Field(1e-3, gt=0)


class MomentsOptions(AdaptiveOptions):
    """As above, with decay rates of the two moments."""

    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)


class TrimOptions(Options):
    """``beta``: share of the sites cut at each end, per number (Yin et al., ICML 2018)."""

    beta: float = Field(0.2, gt=0, lt=0.5)


class KrumOptions(Options):
    """``malicious``: how many sites may be hostile (Blanchard et al., NeurIPS 2017)."""

    malicious: int = Field(0, ge=0)


@STRATEGIES.register("fedavg")
def _fedavg(options: NoOptions) -> FedAvg:
    return FedAvg(weighted_by_key=WEIGHT)


@STRATEGIES.register("fedprox", ProxOptions)
def _fedprox(options: ProxOptions) -> FedAvg:
    return FedProx(weighted_by_key=WEIGHT, proximal_mu=options.mu)


@STRATEGIES.register("fedavgm", MomentumOptions)
def _fedavgm(options: MomentumOptions) -> FedAvg:
    return FedAvgM(weighted_by_key=WEIGHT, server_learning_rate=options.lr, server_momentum=options.momentum)


@STRATEGIES.register("fedadam", MomentsOptions)
def _fedadam(options: MomentsOptions) -> FedAvg:
    return FedAdam(weighted_by_key=WEIGHT, eta=options.lr, beta_1=options.beta1, beta_2=options.beta2, tau=options.tau)


@STRATEGIES.register("fedyogi", MomentsOptions)
def _fedyogi(options: MomentsOptions) -> FedAvg:
    return FedYogi(weighted_by_key=WEIGHT, eta=options.lr, beta_1=options.beta1, beta_2=options.beta2, tau=options.tau)


@STRATEGIES.register("fedadagrad", AdaptiveOptions)
def _fedadagrad(options: AdaptiveOptions) -> FedAvg:
    return FedAdagrad(weighted_by_key=WEIGHT, eta=options.lr, tau=options.tau)


@STRATEGIES.register("median")
def _median(options: NoOptions) -> FedAvg:
    return FedMedian(weighted_by_key=WEIGHT)


@STRATEGIES.register("trimmed-mean", TrimOptions)
def _trimmed_mean(options: TrimOptions) -> FedAvg:
    return FedTrimmedAvg(weighted_by_key=WEIGHT, beta=options.beta)


@STRATEGIES.register("krum", KrumOptions)
def _krum(options: KrumOptions) -> FedAvg:
    return Krum(weighted_by_key=WEIGHT, num_malicious_nodes=options.malicious)


def build_strategy(spec: ComponentSpec | str) -> FedAvg:
    """Raises ConfigError for an unknown strategy or option."""
    return STRATEGIES.build(spec)


def proximal_of(strategy: FedAvg) -> float:
    """FedProx's mu, which the sites apply; 0 for every other strategy."""
    return float(strategy.proximal_mu) if isinstance(strategy, FedProx) else 0.0


def fewest_sites(strategy: FedAvg) -> int:
    """Answers below which a robust rule is not what its name says.

    Krum needs 2f + 3 sites for f hostile ones; a trimmed mean that rounds down to cutting nobody is the plain mean.
    """
    if isinstance(strategy, Krum):
        return 2 * strategy.num_malicious_nodes + 3
    if isinstance(strategy, FedTrimmedAvg):
        return next(sites for sites in count(1) if int(strategy.beta * sites) >= 1)
    return 1


def compares_sites(strategy: FedAvg) -> bool:
    """Whether it is robust because it looks at the sites' updates one beside the other."""
    return fewest_sites(strategy) > 1 or isinstance(strategy, FedMedian)


def check_inbound(strategy: FedAvg, factor: float, name: str) -> None:
    """Refuse an ``inbound-factor`` with which sites may take what the strategy does on purpose for an attack.

    Momentum m adds up 1 / (1 - m) updates where all point the same way. An adaptive step is about ``lr`` in every
    number, whatever the sites' own step sizes are.

    Args:
        factor: how many of a site's own updates the state may move in a round; 0: any.

    Raises:
        ConfigError: it is too small; the message has the value to set.
    """
    needed = 0.0
    if isinstance(strategy, FedAvgM):
        needed = strategy.server_learning_rate / (1 - strategy.server_momentum)
    elif isinstance(strategy, FedOpt):
        needed = _ADAPTIVE_REACH * strategy.eta
    if factor and factor < needed * (1 - 1e-9):
        raise ConfigError(
            f"strategy='{name}' may move the state {needed:g} times as far in a round as a site's own update, and with "
            f"inbound-factor={factor:g} sites would take that for an attack. Set inbound-factor={needed:g}: a hostile "
            "server then has as much room; or use fedavg."
        )


def check_rotation(strategy: FedAvg, rotation: Rotation, name: str) -> None:
    """Refuse a strategy that needs what a round of ``rotation`` does not give: all tensors, or enough sites for each.

    Raises:
        ConfigError: it does not go with the method; the message says which strategies do.
    """
    if rotation and isinstance(strategy, FedAvgM | FedOpt):
        raise ConfigError(
            f"strategy='{name}' keeps a memory of every tensor and would move those that a round does not train. "
            "With a method that trains another part in each round use fedavg, fedprox, median, trimmed-mean or krum."
        )
    if rotation and rotation.per_site and compares_sites(strategy):
        raise ConfigError(
            f"strategy='{name}' compares sites that train the same, and with per_site=true few do. "
            "Use fedavg or fedprox, or one draw for all sites."
        )
