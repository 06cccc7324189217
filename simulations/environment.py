"""The environment that a simulated federation runs in: its own Flower home, offline, without telemetry."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_LOOPBACK = ("127.0.0.1", "localhost")


def flower_home(environ: Mapping[str, str]) -> Path:
    """Where launches keep their files: FEDMEDPEFT_FLWR_HOME, else FLWR_HOME, else the user's cache."""
    chosen = environ.get("FEDMEDPEFT_FLWR_HOME") or environ.get("FLWR_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    cache = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache).expanduser().absolute() / "fedmedpeft" / "flwr"


def flower_settings(environ: Mapping[str, str], session: Path, ray_directory: Path, *, online: bool) -> dict[str, str]:
    """The variables that differ from ``environ``, for every process of one launch."""
    settings = {
        "FLWR_HOME": str(session),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        # Flower would otherwise install the app's dependencies anew for every run, from the network.
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_TMPDIR": str(ray_directory),
        "HF_HUB_OFFLINE": "0" if online else "1",
        "PYTHONUNBUFFERED": "1",
        # Flower starts its own programs by name; they must be those of this environment.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)]),
    }
    if environ.get("PYTHONPATH"):
        # The run starts in another directory, where a relative entry would mean something else.
        entries = environ["PYTHONPATH"].split(os.pathsep)
        settings["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries if entry)
    for name in ("NO_PROXY", "no_proxy"):
        # Flower's HTTP client would otherwise send even loopback through a proxy.
        excepted = [host for host in environ.get(name, "").split(",") if host]
        settings[name] = ",".join([*excepted, *(host for host in _LOOPBACK if host not in excepted)])
    return settings
