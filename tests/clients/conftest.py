from __future__ import annotations

from pathlib import Path

import pytest

from clients.simulated_site import SimulatedFederation
from fedmedpeft.config import RunConfig

SITES = 3


@pytest.fixture
def config(tiny_backbone: Path, tmp_path: Path) -> RunConfig:
    """Three small hospitals on phantoms (synthetic)."""
    return RunConfig.from_mapping(
        {
            "backbone": str(tiny_backbone),
            "data": "phantoms(images=120, scanners=3, size=32)",
            "method": "lora(rank=2)",
            "rounds": 2,
            "local-steps": 2,
            "batch-size": 4,
            "min-train-per-site": 4,
            "runs-dir": str(tmp_path / "runs"),
        }
    )


@pytest.fixture
def federation(config: RunConfig) -> SimulatedFederation:
    return SimulatedFederation(config, SITES)
