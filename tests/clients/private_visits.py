"""Simulated sites with privacy, and visits to them."""

from __future__ import annotations

from pathlib import Path

from clients.simulated_site import SimulatedFederation
from clients.worker import SiteWorker
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import (
    JoinRequest,
    VisitReply,
    VisitRequest,
)


def federation_of(config: RunConfig, **changes: object) -> SimulatedFederation:
    values = {key.replace("_", "-"): value for key, value in changes.items()}
    return SimulatedFederation(RunConfig.from_mapping(config.to_mapping() | values), 3)


def request_to(worker: SiteWorker, round_: int = 1, *, last: bool = False) -> VisitRequest:
    state = worker.join(JoinRequest("run", send_state=True)).state
    assert state is not None
    return VisitRequest("run", round_, last, worker.learner.backbone.fingerprint, 0.0, state)


def visit(worker: SiteWorker, round_: int = 1, *, last: bool = False) -> VisitReply:
    return worker.visit(request_to(worker, round_, last=last))


def ledger_of(config: RunConfig, site: str = "scanner-00") -> Path:
    return Path(config.runs_dir) / "run" / "sites" / f"{site}.ledger.jsonl"
