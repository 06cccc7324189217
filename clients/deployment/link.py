"""From Flower's process to the site worker: HTTP over a Unix socket that only the site's users can open.

It imports no torch, and all that it knows of the site is where the socket lies. A request may be sent again: the worker
gives the same answer to the same request. A worker that was started in place of one that hung refuses what is sent
again, as the request may be what the other one hung over.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from flwr.app import ConfigRecord, RecordDict

from clients.deployment.local_http import local_client
from clients.deployment.other_code import Told
from fedmedpeft import __version__
from fedmedpeft.exchange import Refusal, SiteError
from fedmedpeft.exchange import flower as wire

RUN_CONFIG = "run-config"
"""Record beside a request's own: the configuration that the server announced."""
VERSION, TRY, SEAL = "x-fedmedpeft-version", "x-fedmedpeft-try", "x-gate-seal"
"""Headers: of the program that asks, and which try it is, the first being 1; of the answer that the gate let out."""
REFUSED_ELSEWHERE = "/v1/refused-elsewhere"
_TRIES, _PAUSE = 3, 0.5
_PATIENCE = 5.0

released: set[str] = set()
"""Seals of the answers that this process has been given."""
_log = logging.getLogger("fedmedpeft.site")


@dataclass(frozen=True)
class SiteLink:
    """Asks the worker behind ``socket``.

    Args:
        socket: path of its Unix socket.
        run_config: as announced by the server.
        patience: seconds to wait for a worker that is starting, or being started again.
    """

    socket: Path
    run_config: Mapping[str, Any]
    patience: float = 120.0

    def ask(self, kind: str, content: RecordDict) -> RecordDict:
        """One request, for as long as the worker takes.

        Raises:
            SiteError: the worker refuses, or cannot be reached.
        """
        asked = RecordDict(dict(content.items()))
        asked[RUN_CONFIG] = ConfigRecord(dict(self.run_config))
        packed = wire.pack(asked)
        for number in range(1, _TRIES + 1):
            try:
                return self._read(self._post(kind, packed, number))
            except httpx.TransportError as error:
                _log.warning("The site worker went away (%s), try %d of %d.", type(error).__name__, number, _TRIES)
        raise SiteError(Refusal.UNREACHABLE, "the site's worker ended while it worked on this")

    def _post(self, kind: str, packed: bytes, number: int) -> httpx.Response:
        deadline = time.monotonic() + self.patience
        headers = {VERSION: __version__, TRY: str(number)}
        with local_client(httpx.Timeout(None, connect=10.0), self.socket) as client:
            while True:
                try:
                    return client.post(f"http://site/v1/{kind}", content=packed, headers=headers)
                except httpx.ConnectError as error:
                    if time.monotonic() > deadline:
                        raise SiteError(Refusal.UNREACHABLE, "the site's worker is not running") from error
                    time.sleep(_PAUSE)

    def _read(self, response: httpx.Response) -> RecordDict:
        if response.status_code != httpx.codes.OK:
            raise _refusal(response)
        content = wire.unpack(response.content)
        if wire.seal(content) != response.headers.get(SEAL):
            raise SiteError(Refusal.EGRESS, "egress: the answer is not the one that the site's gate let out")
        released.add(wire.seal(content))
        return content


def tell_of_refusal(socket: Path, told: Told) -> None:
    """Have the worker note what was refused before it was asked. Where it cannot be told, that is all that is lost."""
    try:
        with local_client(_PATIENCE, socket) as client:
            client.post(f"http://site{REFUSED_ELSEWHERE}", content=told.model_dump_json()).raise_for_status()
    except Exception as error:
        _log.warning("The refusal is not in the audit log: the worker could not be told (%s).", type(error).__name__)


def _refusal(response: httpx.Response) -> SiteError:
    """What the worker said; it has worded it to be shown."""
    try:
        fields = json.loads(response.content)
        return SiteError(Refusal(fields["code"]), str(fields["reason"]))
    except (ValueError, KeyError, TypeError):
        return SiteError(Refusal.INTERNAL, "internal error; the site's log has the details")
