"""A run in this process: the same ServerApp loop and ClientApp, without Flower's processes and Ray.

Messages are encoded and decoded as on the wire, and sites train one after the other. It saves the half minute in which
Flower's and Ray's processes start and end, which is most of the time of a short run: studies have many of these.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fedmedpeft.config import RunConfig
from simulations.local_grid import LocalGrid


def run_in_process(config: RunConfig, sites: int, say: Callable[[str], None], cpus: int = 1) -> Path:
    """Run ``config`` over ``sites`` simulated hospitals; the run's directory.

    Args:
        config: of a federated run, or of references alone.
        sites: number of hospitals.
        say: takes the lines that the ServerApp would print.
        cpus: threads for one site's training. Flower's simulation gives the same values up to rounding.

    Raises:
        ConfigError: the configuration cannot be used.
        FederationError: too few sites, or nothing was learned.
    """
    import torch

    from clients.app import app
    from server.federation import run_federation

    torch.set_num_threads(cpus)
    grid = LocalGrid(dict.fromkeys(range(1, 1 + sites), app), config.to_mapping(), simulated=True)
    return run_federation(config, grid, say).path
