"""Wait, within bounds, until the nodes of the federation are there."""

from __future__ import annotations

import time

from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from server.courier import Say
from server.errors import FederationError

# The simulator registers its nodes while the ServerApp starts; after that their number never changes.
_SETTLED = 1.0
_PAUSE = 0.2
_PATIENCE = 60.0
"""Seconds for the nodes of an interrupted run to connect again: their heartbeats have found a new SuperLink by then."""


def registered_names(grid: Grid) -> dict[int, str]:
    """Names under which the operator registered the nodes' keys. Nodes of a simulation have none."""
    return {info.node_id: info.name for info in grid.get_nodes() if info.name}


def wait_for_nodes(grid: Grid, config: RunConfig, say: Say) -> list[int]:
    """Node ids, sorted, once enough are connected.

    Raises:
        ConfigError: the federation has another number of nodes than ``sites`` says.
        FederationError: too few nodes within ``round-timeout``.
    """
    needed = config.sites or (config.min_sites if config.mode == "federated" else 1)
    simulated = grid.run.primary_task_type == TaskType.SIMULATION
    began = since = time.monotonic()
    nodes: list[int] = []
    told = -1
    while True:
        found, now = sorted(grid.get_node_ids()), time.monotonic()
        if found != nodes:
            nodes, since = found, now
        if not simulated and told != len(nodes) < needed:
            told = len(nodes)
            say(f"Waiting for sites: {told} of {needed} connected.")
        settled = bool(nodes) and now - since >= _SETTLED
        if len(nodes) >= needed and (settled or not simulated or config.sites == len(nodes)):
            break
        if simulated and settled:
            break
        if now - began > config.round_timeout:
            raise FederationError(
                f"{len(nodes)} of {needed} sites connected within round-timeout={config.round_timeout:g} s. "
                "Start the missing SuperNodes, or lower sites or min-sites."
            )
        time.sleep(_PAUSE)
    if (config.sites and len(nodes) != config.sites) or len(nodes) < needed:
        raise ConfigError(_mismatch(config, len(nodes), simulated))
    return nodes


def wait_for_return(grid: Grid, expected: int, timeout: float, say: Say) -> None:
    """Until ``expected`` nodes are connected, or for as long as that usually takes. Who is late may come later."""
    began, patience, told = time.monotonic(), min(timeout, _PATIENCE), -1
    while (found := len(list(grid.get_node_ids()))) < expected and time.monotonic() - began < patience:
        if found != told:
            say(f"Waiting for sites: {found} of {expected} connected.")
        told = found
        time.sleep(min(_PAUSE, patience))


def _mismatch(config: RunConfig, found: int, simulated: bool) -> str:
    key, value = ("sites", config.sites) if config.sites else ("min-sites", config.min_sites)
    fix = (
        f'`fedmedpeft run` sets it, or pass --federation-config "num-supernodes={value}"'
        if simulated
        else f"set {key}={found}, or change which SuperNodes are connected"
    )
    return f"{key}={value} but the federation has {found} node{'s' * (found != 1)}: {fix}."
