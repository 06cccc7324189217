"""The environment that a simulated federation runs in: its own Flower home, offline, without telemetry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedmedpeft.flower_environment import flower_environment


def flower_home(environ: Mapping[str, str]) -> Path:
    """Where launches keep their files: FEDMEDPEFT_FLWR_HOME, else FLWR_HOME, else the user's cache."""
    chosen = environ.get("FEDMEDPEFT_FLWR_HOME") or environ.get("FLWR_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    cache = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache).expanduser().absolute() / "fedmedpeft" / "flwr"


def flower_settings(environ: Mapping[str, str], session: Path, ray_directory: Path, *, online: bool) -> dict[str, str]:
    """The variables that differ from ``environ``, for every process of one launch."""
    return flower_environment(environ, session) | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_TMPDIR": str(ray_directory),
        "HF_HUB_OFFLINE": "0" if online else "1",
    }
