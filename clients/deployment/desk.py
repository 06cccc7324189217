"""What comes in and what leaves at a hospital, in order: policy, worker, what stays here, egress gate, audit log.

Everything is refused that one of them does not let pass, and so is whatever goes wrong in a way that nobody foresaw. A
refusal travels as a code and a safe sentence; its cause stays in the site's own log.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Self

from flwr.app import RecordDict

from clients.audit_log.audit_log import AuditLog, AuditLogError
from clients.audit_log.events import PolicyRead, RequestKind, Started, Stopped
from clients.deployment.bounds import bounds, change
from clients.deployment.first_visit import first_visit
from clients.deployment.hospital import hospital_worker
from clients.deployment.kept_runs import refuse_one_too_many
from clients.deployment.link import RUN_CONFIG
from clients.deployment.log_lines import LogLines, refused
from clients.deployment.looks import Looks
from clients.deployment.refusals import detail_of, refusal_of
from clients.deployment.status import Status
from clients.egress.dry_run import write_dry_run
from clients.egress.gate import EgressGate
from clients.egress.policy import Policy
from clients.egress.sent_bytes import SentBytes
from clients.egress.withholding import withhold
from clients.request_checks import check_announced_name
from clients.requests import Kind, Reply, Request, act, read_request
from clients.site_file import SiteFile
from clients.worker import SiteWorker
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import (
    AnswersRequest,
    ContractError,
    JoinRequest,
    ReferenceRequest,
    Refusal,
    SiteError,
    VisitRequest,
)
from fedmedpeft.exchange import flower as wire
from fedmedpeft.tasks import build_task

_LONGEST_CONFIG = 65_536
"""Characters of a run's configuration; one of all keys has about 1,500."""
_BESIDE_STATE = 4_000_000
"""Bytes of what comes beside a state: the configuration, and answers that the sites agreed on."""
_log = logging.getLogger("fedmedpeft.site")


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

    @property
    def most_inbound(self) -> int:
        """Bytes of a message that is read: a state that comes is no larger than one that leaves."""
        return self.site.policy.most_bytes + _BESIDE_STATE

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
                refusal = refusal_of(error)
                outcome, reason = refusal.code.name.lower(), refusal.reason
                _log.warning("Refused (%s): %s", refusal.code.name, refusal.reason, exc_info=detail_of(error))
                lines.refused(refusal)
                if not isinstance(error, Exception):
                    raise
                raise refusal from error
            finally:
                seconds = time.monotonic() - began
                self.status = replace(self.status, busy="", outcome=outcome, reason=reason, seconds=seconds)

    def note_refused(self, request: RequestKind, refusal: SiteError, run: str = "", round_: int | None = None) -> None:
        """Note what is refused without being answered here, whatever :meth:`answer` is at."""
        _log.warning("Refused (%s): %s", refusal.code.name, refusal.reason)
        try:
            self._log.note(refused(refusal, request, run, round_))
        except AuditLogError as error:
            _log.error("%s", error)

    def _answer(self, packed: bytes, lines: LogLines) -> RecordDict:
        if len(packed) > self.most_inbound:
            raise SiteError(Refusal.POLICY, f"policy: a message of more than {self.most_inbound} bytes (most-bytes)")
        announced, request = _read(lines.kind, wire.unpack(packed))
        lines.asked(request, announced)
        self.status = replace(self.status, run=lines.run, round=lines.round)
        self._policy.check_run(announced)
        self._policy.check_hours(self._clock())
        refuse_one_too_many(self.site.folder("runs"), lines.run, self.site.policy.most_runs)
        if isinstance(request, ReferenceRequest):
            self._policy.check_reference()
        worker = self._worker(announced)
        content = self._reply(worker, request, lines)
        if self.site.policy.dry_run:
            if isinstance(request, JoinRequest):
                self._reply(worker, first_visit(worker, request.run), lines.of("visit", request.run, 1))
            raise SiteError(Refusal.DRY_RUN, "dry run: nothing was sent")
        return content

    def _reply(self, worker: SiteWorker, request: Request, lines: LogLines) -> RecordDict:
        """What leaves, noted before it does; in a dry run it is written down instead.

        Raises:
            ContractError, SiteError: it is refused, by the worker or the gate.
            AuditLogError: the log cannot be written, and so nothing may leave.
        """
        earlier = worker.answered(request) if isinstance(request, VisitRequest) else None
        answer = earlier or self._act(worker, request)
        if not earlier:
            lines.trained(worker, answer)
        contract, start = bounds(worker, request)
        known = build_task(worker.config.task) if isinstance(request, AnswersRequest) else worker.learner.task
        fingerprint = "" if isinstance(request, AnswersRequest) else worker.learner.backbone.fingerprint
        reply = withhold(answer, self.site.policy, known)
        gate = EgressGate(self.site.policy, self.site.site, known, fingerprint, self._sent)
        content = gate.let_out(reply, contract, start, lines.run)
        moved = change(reply, contract, start)
        if self.site.policy.dry_run:
            folder = self.site.folder("dry-run")
            path = write_dry_run(folder, lines.kind, lines.run, lines.round or 0, content, reply, contract)
            lines.dry_run(reply, content, moved, path)
        else:
            if isinstance(request, VisitRequest) and not earlier:
                self._looks(request).add(request, worker.repeated.identity(request))
            lines.left(reply, content, moved, repeated=earlier is not None)
        return content

    def _act(self, worker: SiteWorker, request: Request) -> Reply:
        """The worker's answer to what it has not answered before."""
        if not isinstance(request, VisitRequest):
            return act(worker, request)
        self._looks(request).check(request, worker.repeated.identity(request), worker.config.rounds)
        return worker.visit_anew(request)

    def _looks(self, request: VisitRequest) -> Looks:
        return Looks.of(self.site.folder("runs"), request.run)

    def _worker(self, announced: RunConfig) -> SiteWorker:
        """The worker of the run; another run needs another."""
        if self._run is None or self._run[0] != announced:
            # The old one's memory is needed for the new one.
            self._run = None
            self._run = (announced, self._build(self.site, announced))
        return self._run[1]


def _read(kind: Kind, content: RecordDict) -> tuple[RunConfig, Request]:
    """The announced run, and what is asked. Raises ContractError and SiteError."""
    announced = content.config_records.get(RUN_CONFIG)
    if announced is None:
        raise ContractError("the request does not say of which run configuration it is")
    if sum(len(str(part)) for item in announced.items() for part in item) > _LONGEST_CONFIG:
        raise ContractError(f"a run configuration of more than {_LONGEST_CONFIG:,} characters")
    try:
        config = RunConfig.from_mapping(announced)
    except ConfigError as error:
        raise SiteError(Refusal.CONFIGURATION, str(error)) from error
    request = read_request(kind, content)
    check_announced_name(request.run)
    # Where a server goes on after it was interrupted it is the same run.
    return config.model_copy(update={"resume": ""}), request
