"""Asking the site's worker how it fares, through its socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

_PATIENCE = 2.0


def worker_is_up(socket: Path) -> bool:
    """Whether a worker answers there."""
    return _get(socket, "health") is not None


def worker_status(socket: Path) -> dict[str, Any] | None:
    """What the worker says of itself; None where none answers."""
    return _get(socket, "status")


def _get(socket: Path, what: str) -> dict[str, Any] | None:
    try:
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, timeout=_PATIENCE, trust_env=False) as client:
            answer = client.get(f"http://site/v1/{what}")
            content = answer.json() if answer.status_code == httpx.codes.OK else None
            return content if isinstance(content, dict) else None
    except (httpx.HTTPError, OSError, ValueError):
        return None
