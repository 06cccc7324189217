"""The environment of Flower's processes, wherever they run: a home of their own, no telemetry, nothing installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_LOOPBACK = ("127.0.0.1", "localhost")


def flower_environment(environ: Mapping[str, str], home: Path, *, programs: Path | None = None) -> dict[str, str]:
    """The variables that differ from ``environ``.

    Args:
        home: FLWR_HOME. Each party on a machine needs its own.
        programs: a directory whose programs go before Flower's own of the same name.
    """
    first = [str(programs)] if programs is not None else []
    settings = {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        # Flower would otherwise install the app's dependencies anew for every run, from the network.
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONUNBUFFERED": "1",
        # Flower starts its own programs by name; they must be those of this environment.
        "PATH": os.pathsep.join([*first, str(Path(sys.executable).parent), environ.get("PATH", os.defpath)]),
    }
    if environ.get("PYTHONPATH"):
        # They start in another directory, where a relative entry would mean something else.
        entries = environ["PYTHONPATH"].split(os.pathsep)
        settings["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries if entry)
    for name in ("NO_PROXY", "no_proxy"):
        # Flower's HTTP client would otherwise send even loopback through a proxy.
        excepted = [host for host in environ.get(name, "").split(",") if host]
        settings[name] = ",".join([*excepted, *(host for host in _LOOPBACK if host not in excepted)])
    return settings
