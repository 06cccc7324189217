from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.config import RunConfig
from simulations import in_process

SITES = 3


def tiny_config(backbone: Path, runs_dir: Path, **changes: object) -> RunConfig:
    """Three small hospitals on phantoms (synthetic), two rounds."""
    values: dict[str, object] = {
        "backbone": str(backbone),
        "data": "phantoms(images=120, scanners=3, size=32)",
        "method": "layernorm",
        "rounds": 2,
        "local-steps": 2,
        "batch-size": 4,
        "sites": SITES,
        "min-train-per-site": 4,
        "runs-dir": str(runs_dir),
        "run-name": "tiny",
    }
    return RunConfig.from_mapping(values | changes)


def run_in_process(config: RunConfig) -> Path:
    """The real ServerApp's loop against the real ClientApp, without Ray; returns the run's directory."""
    return in_process.run_in_process(config, config.sites, lambda line: None)


@pytest.fixture(scope="session")
def personal_run(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose heads stayed at the sites."""
    return run_in_process(
        tiny_config(tiny_backbone, tmp_path_factory.mktemp("runs"), personal="head", references="none")
    )
