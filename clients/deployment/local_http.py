"""HTTP between the processes of a site, which are on one machine."""

from __future__ import annotations

from pathlib import Path

import httpx


def local_client(timeout: float | httpx.Timeout, socket: Path | None = None) -> httpx.Client:
    """One that asks no proxy; at the Unix ``socket`` where one is named."""
    # There is no TLS here; making ready for it would take longer than a request.
    transport = httpx.HTTPTransport(uds=None if socket is None else str(socket), verify=False)
    return httpx.Client(transport=transport, timeout=timeout, trust_env=False)
