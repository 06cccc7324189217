"""Asking a site's processes how they fare: the worker through its socket, Flower's SuperNode through its port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from clients.deployment.local_http import local_client

_PATIENCE = 2.0


def worker_is_up(socket: Path) -> bool:
    """Whether a worker answers there."""
    return _get(socket, "health") is not None


def supernode_is_up(port: int) -> bool:
    """Whether Flower's SuperNode answers on that port of this machine; one that hangs still listens."""
    try:
        with local_client(_PATIENCE) as client:
            return client.get(f"http://127.0.0.1:{port}/health").status_code == httpx.codes.OK
    except (httpx.HTTPError, OSError):
        return False


def worker_status(socket: Path) -> dict[str, Any] | None:
    """What the worker says of itself; None where none answers."""
    return _get(socket, "status")


def _get(socket: Path, what: str) -> dict[str, Any] | None:
    try:
        with local_client(_PATIENCE, socket) as client:
            answer = client.get(f"http://site/v1/{what}")
            content = answer.json() if answer.status_code == httpx.codes.OK else None
            return content if isinstance(content, dict) else None
    except (httpx.HTTPError, OSError, ValueError):
        return None
