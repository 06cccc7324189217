from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from clients.site_file import SiteFile
from fedmedpeft.config import RunConfig


@pytest.fixture
def announced(tiny_backbone: Path) -> RunConfig:
    """What a server announces; its data and places mean nothing to a hospital."""
    return RunConfig.from_mapping(
        {
            "backbone": "small",
            "data": "manifest(path=/of/the/server.csv)",
            "method": "lora(rank=2)",
            "rounds": 2,
            "local-steps": 2,
            "batch-size": 4,
            "min-train-per-site": 4,
            "references": "none",
            "runs-dir": "/of/the/server",
        }
    )


@pytest.fixture
def site_at(tiny_backbone: Path, tmp_path: Path) -> Callable[..., SiteFile]:
    """A site file in a directory of its own, on phantoms (synthetic); arguments replace or add sections."""

    def make(**sections: Any) -> SiteFile:
        content: dict[str, Any] = {
            "site": "st-mary",
            "server": {"address": "127.0.0.1:1", "ca-certificate": "ca.crt", "key": "site.key"},
            "data": {
                "source": "phantoms(images=120, scanners=3, size=32)",
                "rows-of": "scanner-01",
                "classes": ["mottled", "multifocal", "smooth", "spiculated"],
            },
            "backbones": {"small": str(tiny_backbone)},
            "policy": {"smallest-count": 0},
        }
        path = tmp_path / "site" / "site.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(content | sections), encoding="utf-8")
        return SiteFile.load(path)

    return make
