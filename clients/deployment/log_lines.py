"""The lines of the audit log about one request."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import RecordDict
from pydantic import TypeAdapter

from clients.audit_log.audit_log import AuditLog, AuditLogError
from clients.audit_log.events import (
    Asked,
    DryRun,
    Left,
    Notice,
    Refused,
    Repeated,
    RequestKind,
    Stage,
    Trained,
    Unit,
)
from clients.egress.policy import run_hash
from clients.requests import Kind, Reply, Request
from clients.worker import SiteWorker
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import EncodedState, ReferenceReply, Refusal, SiteError, VisitReply, VisitRequest
from fedmedpeft.exchange import flower as wire

_STAGES: Mapping[Refusal, Stage] = {
    Refusal.CONFIGURATION: "request",
    Refusal.POLICY: "policy",
    Refusal.LATER: "hours",
    Refusal.CONTRACT: "inbound",
    Refusal.STATE: "inbound",
    Refusal.REPEATED: "inbound",
    Refusal.BACKBONE: "inbound",
    Refusal.EGRESS: "egress",
    Refusal.DRY_RUN: "egress",
    Refusal.DISK: "disk",
    Refusal.MEMORY: "memory",
    Refusal.CODE: "code",
}
"""Where a request was refused; all other codes are of training."""
_PIECE = 1_000_000
_UNIT: TypeAdapter[Unit | None] = TypeAdapter(Unit | None)


class LogLines:
    """What happens to one request, line by line.

    Args:
        log: of the site.
        kind: of the request.
        packed: as it came.
    """

    def __init__(self, log: AuditLog, kind: Kind, packed: bytes) -> None:
        self.kind = kind
        self.run = ""
        self.round: int | None = None
        self._log = log
        self._came: dict[str, Any] = {"bytes": len(packed), "content_hash": hashlib.sha256(packed).hexdigest()}
        self._asked = False

    def of(self, kind: Kind, run: str, round_: int) -> LogLines:
        """Of what the site asks itself beside this request, in a dry run."""
        lines = copy(self)
        lines.kind, lines.run, lines.round = kind, run, round_
        return lines

    def asked(self, request: Request, announced: RunConfig) -> None:
        """It could be read."""
        self.run, self.round = getattr(request, "run", None) or "", getattr(request, "round", None)
        details: dict[str, Any] = {"run_hash": run_hash(announced)}
        if isinstance(request, VisitRequest):
            details |= {"state_norm": _norm(request.state), "manifest_hash": request.state.manifest_hash}
        self._asked = True
        self._log.note(Asked(**self._about, **self._came, **details))
        if isinstance(request, VisitRequest) and request.notice:
            self._log.note(Notice(**self._about, words=request.notice))

    def trained(self, worker: SiteWorker, reply: Reply) -> None:
        """The worker has trained for it, where it has."""
        steps = reply.steps if isinstance(reply, VisitReply) else 0
        if steps:
            self._log.note(
                Trained(
                    **self._about,
                    data_hash=worker.data.train_hash,
                    records=len(worker.data.train),
                    steps=steps,
                    seconds=round(reply.seconds, 3) if isinstance(reply, VisitReply) else 0.0,
                    private=_UNIT.validate_python(worker.privacy.private or None),
                )
            )

    def left(self, reply: Reply, content: RecordDict, update_norm: float | None, *, repeated: bool) -> None:
        """It is answered as soon as this returns."""
        packed = wire.pack(content)
        if repeated:
            self._log.note(Repeated(**self._about, **_of(packed)))
            return
        self._log.note(Left(**self._about, **_of(packed), **_details(reply, update_norm)))

    def dry_run(self, reply: Reply, content: RecordDict, update_norm: float | None, path: Path) -> None:
        """The answer lies at ``path`` and does not leave."""
        file_hash = hashlib.sha256(path.read_bytes()).hexdigest()
        details = _of(wire.pack(content)) | _details(reply, update_norm)
        self._log.note(DryRun(**self._about, **details, file_hash=file_hash))

    def refused(self, refusal: SiteError) -> None:
        """It is not answered. A log that cannot be written keeps no refusal from being one."""
        try:
            if not self._asked:
                self._log.note(Asked(**self._about, **self._came))
            self._log.note(refused(refusal, **self._about))
        except AuditLogError:
            return

    @property
    def _about(self) -> dict[str, Any]:
        return {"request": self.kind, "run": self.run, "round": self.round}


def refused(refusal: SiteError, request: RequestKind, run: str = "", round: int | None = None) -> Refused:
    """The line about what is not answered."""
    stage = _STAGES.get(refusal.code, "training")
    return Refused(request=request, run=run, round=round, code=refusal.code.name, stage=stage, reason=refusal.reason)


def _of(packed: bytes) -> dict[str, Any]:
    return {"bytes": len(packed), "content_hash": hashlib.sha256(packed).hexdigest()}


def _details(reply: Reply, update_norm: float | None) -> dict[str, Any]:
    """What there is in an answer, by name and size."""
    details: dict[str, Any] = {"update_norm": update_norm}
    state: EncodedState | None = getattr(reply, "state", None)
    if state is not None:
        details["parts"] = {part: int(vector.size) for part, vector in state.vectors.items()}
        details |= {"manifest_hash": state.manifest_hash, "state_norm": _norm(state)}
    details["scores"] = tuple(getattr(reply, "before", None) or getattr(reply, "scores", None) or ())
    if isinstance(reply, VisitReply | ReferenceReply):
        details["withheld"] = tuple(name for name in reply.withheld.split(",") if name)
    if isinstance(reply, VisitReply):
        details |= {"epsilon": reply.epsilon, "delta": reply.delta}
    return details


def _norm(state: EncodedState) -> float | None:
    """Euclidean; None for what no state is made of. Nothing of it has been checked yet, so it is read in pieces."""
    if any(vector.dtype != np.float32 or vector.ndim != 1 for vector in state.vectors.values()):
        return None
    pieces = (
        vector[start : start + _PIECE].astype(np.float64)
        for vector in state.vectors.values()
        for start in range(0, vector.size, _PIECE)
    )
    return math.sqrt(sum(float(np.dot(piece, piece)) for piece in pieces))
