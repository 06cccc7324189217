"""What privacy of whole sites does not go with, refused before anything starts."""

from __future__ import annotations

from flwr.serverapp.strategy import FedAvg

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.methods import Rotation
from fedmedpeft.privacy.client_level import FEWEST_SITES, ClientLevel, client_level
from server.strategies import compares_sites


def check_client_privacy(config: RunConfig, strategy: FedAvg, rotation: Rotation) -> ClientLevel | None:
    """What the configuration says of privacy of whole sites; None where it is off.

    Raises:
        ConfigError: it cannot be read, or the rest of the configuration would make more of one site than the noise
            covers; the message says what to choose.
    """
    level = client_level(config.client_privacy)
    if level is None:
        return None
    asked = f"client-privacy='{config.client_privacy}'"
    if config.inbound_factor:
        raise ConfigError(
            f"{asked} does not go with inbound-factor={config.inbound_factor:g}: the noise of few sites moves the "
            "state further than any training, and sites would refuse it. Set inbound-factor=0."
        )
    if config.weighting != "uniform":
        raise ConfigError(
            f"{asked} does not go with weighting='{config.weighting}': its noise is for a mean in which each of n "
            "sites has the share 1 / n, and by its number of images one may have nearly all. Set weighting='uniform'."
        )
    if compares_sites(strategy):
        raise ConfigError(
            f"{asked} does not go with strategy='{config.strategy}', which compares the sites' updates one by one: one "
            "site may change its result by more than clip / n, and of a mean with noise it has nothing to compare. Use "
            "fedavg, fedprox, fedavgm, fedadam, fedyogi or fedadagrad; the clip itself bounds what one site can do."
        )
    if rotation.per_site:
        raise ConfigError(
            f"{asked} needs all sites of a round to train the same tensors: with per_site=true a tensor is the mean of "
            "few of them, or of one. Use one draw for all sites (per_site=false)."
        )
    return level


def check_sites(level: ClientLevel | None, sites: int) -> None:
    """Raises ConfigError where fewer sites take part than a mean needs to hide one of them among others."""
    if level and sites < FEWEST_SITES:
        raise ConfigError(
            f"client-privacy hides one site among others and needs {FEWEST_SITES} of them, {sites} takes part. For the "
            "records of one site use privacy='required(...)'."
        )
