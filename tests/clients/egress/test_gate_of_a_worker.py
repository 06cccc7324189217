"""What real workers answer passes the gate, under a policy that keeps nothing back and under one that does."""

from __future__ import annotations

import pytest

from clients.egress.gate import EgressGate
from clients.egress.withholding import Reply, withhold
from clients.policy_section import PolicySection
from clients.simulated_site import SimulatedFederation
from clients.worker import SiteWorker
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import JoinRequest, VisitReply, VisitRequest
from fedmedpeft.exchange import flower as wire

_METHODS = ("lora(rank=2)", "head", "sba(where='vision')+layernorm")


def _gate(worker: SiteWorker, section: PolicySection) -> EgressGate:
    learner = worker.learner
    return EgressGate(section, worker.data.site, learner.task, learner.backbone.fingerprint)


def _leaves(worker: SiteWorker, section: PolicySection, reply: Reply, groups: tuple[str, ...] = ()) -> Reply:
    kept = withhold(reply, section, worker.learner.task)
    whole = worker.contract
    part = whole.over(worker.learner.rotation.part(whole.manifest, groups)) if groups else whole
    content = _gate(worker, section).let_out(kept, part, worker.initial.only(whole.manifest))
    assert wire.pack(content) == wire.pack(wire.encode(kept))
    return kept


@pytest.mark.parametrize("method", _METHODS)
def test_a_run_of_a_worker_passes(config: RunConfig, method: str) -> None:
    values = {**config.to_mapping(), "method": method}
    worker = SimulatedFederation(RunConfig.from_mapping(values), 3).worker(0)
    # Simulated sites have a partition of all data; a hospital has none, and may not send one.
    worker.partition_hash = ""
    section, strict = PolicySection(smallest_count=0), PolicySection(smallest_count=5, metrics="none")
    joined = worker.join(JoinRequest("run", send_state=True))
    _leaves(worker, section, joined)
    assert joined.state is not None
    rotation = worker.learner.rotation
    groups = rotation.draw(0, 1, worker.data.site) if rotation else ()
    whole = worker.initial.only(worker.contract.manifest)
    drawn = ",".join(groups)
    # Nothing of a rotation has moved yet, so that none of it is sent.
    state = whole.only(rotation.part(whole.manifest, ())) if rotation else whole
    state_hash = whole.hash() if rotation else ""
    fingerprint = worker.learner.backbone.fingerprint
    visited = worker.visit(
        VisitRequest("run", 1, False, fingerprint, 0.0, state.encode(), train=drawn, state_hash=state_hash)
    )
    _leaves(worker, section, visited, groups)
    told = _leaves(worker, strict, visited, groups)
    assert isinstance(told, VisitReply)
    assert (told.before, told.withheld) == ({}, "val")
    last = worker.visit(VisitRequest("run", 3, True, fingerprint, 0.0, state.encode(), state_hash=state_hash))
    _leaves(worker, section, last)
