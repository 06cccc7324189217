"""The worker's door: HTTP on a Unix socket, answered one request at a time while its status can always be asked."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clients.deployment.desk import HospitalDesk
from clients.deployment.link import REFUSED_ELSEWHERE, SEAL, TRY, VERSION
from clients.deployment.longest_request import LongestRequest
from clients.deployment.refused_elsewhere import MOST_BYTES, RefusedElsewhere
from clients.requests import KINDS, Kind
from fedmedpeft import __version__
from fedmedpeft.exchange import Refusal, SiteError
from fedmedpeft.exchange import flower as wire

_REFUSED = 409
_FIRST = "1"
_LOOK, _TO_NOTE, _TO_ANSWER = 5.0, 5.0, 1.0
"""Seconds: between two looks at how long a request lasts; for its line in the audit log; until its refusal is read."""
_log = logging.getLogger("fedmedpeft.site")


def service(desk: HospitalDesk, give_up: Callable[[], None], *, after_hang: bool = False) -> Starlette:
    """The application: ``POST /v1/<kind>``, ``GET /v1/health``, ``GET /v1/status``, and what is refused elsewhere.

    Args:
        give_up: ends this process; called soon after a request was refused because it lasts too long.
        after_hang: whether the worker before this one had stopped answering. What it was asked is not done again.
    """
    closing = _Closing(desk, give_up)
    elsewhere = RefusedElsewhere(desk.note_refused)

    async def health(request: Request) -> Response:
        return JSONResponse({"site": desk.site.site, "version": __version__})

    async def status(request: Request) -> Response:
        return JSONResponse(asdict(desk.status))

    async def refused_elsewhere(request: Request) -> Response:
        taken = await run_in_threadpool(elsewhere.take, await _body(request, MOST_BYTES + 1))
        return Response(status_code=204 if taken else 400)

    async def ask(request: Request) -> Response:
        packed = await _body(request, desk.most_inbound + 1)
        kind, version = request.path_params["kind"], request.headers.get(VERSION, "")
        again = after_hang and request.headers.get(TRY, _FIRST) != _FIRST
        work = asyncio.ensure_future(run_in_threadpool(_answer, desk, kind, packed, version, again))
        while not (await asyncio.wait({work}, timeout=_LOOK))[0]:
            if closing.longest.passed():
                return closing.close()
        return work.result()

    routes = [Route("/v1/health", health), Route("/v1/status", status)]
    routes.append(Route(REFUSED_ELSEWHERE, refused_elsewhere, methods=["POST"]))
    return Starlette(routes=[*routes, Route("/v1/{kind}", ask, methods=["POST"])])


class _Closing:
    """What is done where a request lasts too long: it is refused, so that nobody asks it again, and then the process
    ends. Whatever the request waits for is waited for by a thread, which nothing else could end.
    """

    def __init__(self, desk: HospitalDesk, give_up: Callable[[], None]) -> None:
        self.longest = LongestRequest(lambda: desk.status, desk.site.worker.longest_request)
        self._desk, self._give_up = desk, give_up
        self._task: asyncio.Task[None] | None = None

    def close(self) -> Response:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._end())
        refusal = self.longest.refusal
        return _refused(refusal.code, refusal.reason)

    async def _end(self) -> None:
        status, refusal = self._desk.status, self.longest.refusal
        noting = run_in_threadpool(
            self._desk.note_refused, _known(status.busy) or "other", refusal, status.run, status.round
        )
        try:
            # The disk of the log may be what the request waits for.
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(noting)), _TO_NOTE)
        except Exception as error:
            _log.error("The audit log does not take the line about this (%s).", type(error).__name__)
        await asyncio.sleep(_TO_ANSWER)
        self._give_up()


async def _body(request: Request, most: int) -> bytes:
    """At most so many bytes of it. The rest is read and thrown away: who sends it waits for an answer."""
    kept = bytearray()
    async for piece in request.stream():
        kept += piece[: most - len(kept)]
    return bytes(kept)


def _known(kind: str) -> Kind | None:
    return next((name for name in KINDS if name == kind), None)


def _answer(desk: HospitalDesk, kind: str, packed: bytes, version: str, again: bool) -> Response:
    try:
        known = _known(kind)
        if known is None:
            raise SiteError(Refusal.CONTRACT, "asks for something that a site does not do")
        if again:
            refusal = SiteError(Refusal.UNREACHABLE, "the site's worker stopped answering while it worked on this")
            desk.note_refused(known, refusal)
            raise refusal
        if version != __version__:
            raise SiteError(Refusal.CODE, f"Flower's process has fedmedpeft {version[:20]}, the worker {__version__}")
        content = desk.answer(known, packed)
        return Response(wire.pack(content), headers={SEAL: wire.seal(content)}, media_type="application/octet-stream")
    except SiteError as refusal:
        return _refused(refusal.code, refusal.reason)
    except Exception:
        # The desk words all refusals itself. Whatever else happens must not leave the site in its own words.
        _log.exception("The site could not answer.")
        return _refused(Refusal.INTERNAL, "internal error; the site's log has the details")


def _refused(code: Refusal, reason: str) -> Response:
    return Response(json.dumps({"code": int(code), "reason": reason}), _REFUSED, media_type="application/json")
