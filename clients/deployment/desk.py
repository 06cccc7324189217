"""What comes in and what leaves at a hospital, in order: policy, worker, what stays here, egress gate, audit log.

Everything is refused that one of them does not let pass, and so is whatever goes wrong in a way that nobody foresaw. A
refusal travels as a code and a safe sentence; its cause stays in the site's own log.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from flwr.app import RecordDict

from clients.audit_log.audit_log import AuditLog, AuditLogError
from clients.audit_log.events import PolicyRead, Started, Stopped
from clients.deployment.bounds import bounds, change
from clients.deployment.hospital import hospital_worker
from clients.deployment.link import RUN_CONFIG
from clients.deployment.log_lines import LogLines
from clients.egress.dry_run import write_dry_run
from clients.egress.gate import EgressGate
from clients.egress.policy import Policy
from clients.egress.sent_bytes import SentBytes
from clients.egress.withholding import withhold
from clients.requests import Kind, Reply, Request, act, read_request
from clients.site_file import SiteFile
from clients.worker import SiteWorker
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import (
    Contract,
    ContractError,
    PeftState,
    ReferenceRequest,
    Refusal,
    SiteError,
    VisitRequest,
)
from fedmedpeft.exchange import flower as wire
from fedmedpeft.training.memory import out_of_memory

_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger("fedmedpeft.site")


@dataclass(frozen=True)
class Status:
    """What the site's own people may ask at any time.

    Attributes:
        pid: of the worker.
        started, since: seconds since 1970; when the worker started, and when it began what it is doing.
        busy: with which kind of request; empty: with none.
        run, round: last asked for.
        outcome: of the last request: "answered", or the name of a refusal.
        reason: of the refusal.
        seconds: that the last request took.
    """

    pid: int
    started: float
    busy: str = ""
    since: float = 0.0
    run: str = ""
    round: int | None = None
    outcome: str = ""
    reason: str = ""
    seconds: float = 0.0


class HospitalDesk:
    """Answers for one hospital, one request at a time.

    Args:
        site: its checked ``site.yaml``.
        log: its audit log.
        clock: local time, for working hours.
        build: loads backbone and data for a run.
    """

    def __init__(
        self,
        site: SiteFile,
        log: AuditLog,
        clock: Callable[[], datetime] = datetime.now,
        build: Callable[[SiteFile, RunConfig], SiteWorker] = hospital_worker,
    ) -> None:
        self.site = site
        self.status = Status(os.getpid(), time.time())
        self._log = log
        self._policy = Policy(site.policy, site.backbones)
        self._sent = SentBytes(site.folder("audit") / "sent-bytes.json")
        self._clock, self._build = clock, build
        self._one = threading.Lock()
        self._run: tuple[RunConfig, SiteWorker] | None = None

    @classmethod
    @contextmanager
    def opened(cls, site: SiteFile) -> Iterator[Self]:
        """With the audit log of ``site``, which notes when the worker starts and ends.

        Raises:
            ConfigError: the log cannot be written or does not verify; nothing may be done without it.
        """
        try:
            log = AuditLog.open(site.audit_log, site=site.site)
            log.note(Started.here())
            log.note(PolicyRead.of(site.policy))
        except AuditLogError as error:
            raise ConfigError(str(error)) from error
        yield cls(site, log)
        try:
            log.note(Stopped())
        except AuditLogError as error:
            _log.error("%s", error)

    def answer(self, kind: Kind, packed: bytes) -> RecordDict:
        """The content of the answer to a request that came in as ``packed`` (:func:`fedmedpeft.exchange.flower.pack`).

        Raises:
            SiteError: it is refused.
        """
        with self._one:
            began = time.monotonic()
            self.status = replace(self.status, busy=kind, since=time.time())
            outcome, reason = "answered", ""
            lines = LogLines(self._log, kind, packed)
            try:
                return self._answer(packed, lines)
            except BaseException as error:
                refusal = _refusal(error)
                outcome, reason = refusal.code.name.lower(), refusal.reason
                _log.warning("Refused (%s): %s", refusal.code.name, refusal.reason, exc_info=_detail(error))
                lines.refused(refusal)
                if not isinstance(error, Exception):
                    raise
                raise refusal from error
            finally:
                seconds = time.monotonic() - began
                self.status = replace(self.status, busy="", outcome=outcome, reason=reason, seconds=seconds)

    def _answer(self, packed: bytes, lines: LogLines) -> RecordDict:
        announced, request = _read(lines.kind, wire.unpack(packed))
        lines.asked(request, announced)
        self.status = replace(self.status, run=lines.run, round=lines.round)
        self._policy.check_run(announced)
        self._policy.check_hours(self._clock())
        if isinstance(request, ReferenceRequest):
            self._policy.check_reference()
        worker = self._worker(announced)
        repeated = isinstance(request, VisitRequest) and worker.has_answered(request)
        answer = act(worker, request)
        if not repeated:
            lines.trained(worker, answer)
        reply = withhold(answer, self.site.policy, worker.learner.task)
        contract, start = bounds(worker, request)
        gate = EgressGate(
            self.site.policy, self.site.site, worker.learner.task, worker.learner.backbone.fingerprint, self._sent
        )
        content = gate.let_out(reply, contract, start, lines.run)
        self._note(reply, content, contract, start, lines, repeated=repeated)
        return content

    def _note(
        self,
        reply: Reply,
        content: RecordDict,
        contract: Contract | None,
        start: PeftState | None,
        lines: LogLines,
        *,
        repeated: bool,
    ) -> None:
        """Note what leaves, before it does. In a dry run write it down and refuse.

        Raises:
            SiteError: it is a dry run.
            AuditLogError: the log cannot be written, and so nothing may leave.
        """
        moved = change(reply, contract, start)
        if not self.site.policy.dry_run:
            lines.left(reply, content, moved, repeated=repeated)
            return
        folder = self.site.folder("dry-run")
        path = write_dry_run(folder, lines.kind, lines.run, lines.round or 0, content, reply, contract)
        lines.dry_run(reply, content, moved, path)
        raise SiteError(Refusal.DRY_RUN, "dry run: nothing was sent")

    def _worker(self, announced: RunConfig) -> SiteWorker:
        """The worker of the run; another run needs another."""
        if self._run is None or self._run[0] != announced:
            # The old one's memory is needed for the new one.
            self._run = None
            worker = self._build(self.site, announced)
            self._policy.check_fingerprint(worker.learner.backbone.fingerprint)
            self._run = (announced, worker)
        return self._run[1]


def _read(kind: Kind, content: RecordDict) -> tuple[RunConfig, Request]:
    """The announced run, and what is asked. Raises ContractError and SiteError."""
    announced = content.config_records.get(RUN_CONFIG)
    if announced is None:
        raise ContractError("the request does not say of which run configuration it is")
    try:
        config = RunConfig.from_mapping(announced)
    except ConfigError as error:
        raise SiteError(Refusal.CONFIGURATION, str(error)) from error
    return config, read_request(kind, content)


def _refusal(error: BaseException) -> SiteError:
    """What the server is told of ``error``."""
    if isinstance(error, SiteError):
        return error
    if isinstance(error, ContractError):
        return SiteError(Refusal.CONTRACT, str(error))
    if isinstance(error, AuditLogError):
        return SiteError(Refusal.DISK, error.public)
    if isinstance(error, OSError) and error.errno in _FULL:
        return SiteError(Refusal.DISK, "the site's disk is full")
    if out_of_memory(error):
        return SiteError(Refusal.MEMORY, "the site ran out of memory")
    return SiteError(Refusal.INTERNAL, "internal error; the site's log has the details")


def _detail(error: BaseException) -> BaseException | None:
    """What the site's own log shows beside a refusal: its cause, or what nobody foresaw."""
    return error.__cause__ if isinstance(error, SiteError | ContractError) else error
