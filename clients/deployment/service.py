"""The worker's door: HTTP on a Unix socket, answered one request at a time while its status can always be asked."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from clients.deployment.desk import HospitalDesk
from clients.deployment.link import SEAL, VERSION
from clients.requests import KINDS
from fedmedpeft import __version__
from fedmedpeft.exchange import Refusal, SiteError
from fedmedpeft.exchange import flower as wire

_REFUSED = 409
_log = logging.getLogger("fedmedpeft.site")


def service(desk: HospitalDesk) -> Starlette:
    """The application: ``POST /v1/<kind>``, ``GET /v1/health``, ``GET /v1/status``."""

    async def health(request: Request) -> Response:
        return JSONResponse({"site": desk.site.site, "version": __version__})

    async def status(request: Request) -> Response:
        return JSONResponse(asdict(desk.status))

    async def ask(request: Request) -> Response:
        packed = await _body(request, desk.most_inbound + 1)
        version = request.headers.get(VERSION, "")
        return await run_in_threadpool(_answer, desk, request.path_params["kind"], packed, version)

    routes = [Route("/v1/health", health), Route("/v1/status", status)]
    return Starlette(routes=[*routes, Route("/v1/{kind}", ask, methods=["POST"])])


async def _body(request: Request, most: int) -> bytes:
    """At most so many bytes of it. The rest is read and thrown away: who sends it waits for an answer."""
    kept = bytearray()
    async for piece in request.stream():
        kept += piece[: most - len(kept)]
    return bytes(kept)


def _answer(desk: HospitalDesk, kind: str, packed: bytes, version: str) -> Response:
    try:
        known = next((name for name in KINDS if name == kind), None)
        if known is None:
            raise SiteError(Refusal.CONTRACT, "asks for something that a site does not do")
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
