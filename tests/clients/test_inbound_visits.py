from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clients.inbound import moved
from clients.site_training import SiteTraining
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import (
    ContractError,
    VisitRequest,
)
from fedmedpeft.privacy.ledger import Ledger
from tests.clients.private_visits import federation_of, ledger_of, request_to, visit


def test_a_crafted_state_is_refused_before_anything_is_paid(config: RunConfig) -> None:
    worker = federation_of(config, privacy="required(epsilon=8)").worker(0)
    request = request_to(worker)
    crafted = {part: vector + np.float32(0.01) for part, vector in request.state.vectors.items()}
    state = type(request.state)(request.state.manifest_hash, crafted)
    with pytest.raises(ContractError, match="round 1"):
        worker.visit(VisitRequest("run", 1, False, request.fingerprint, 0.0, state))
    assert Ledger.read(ledger_of(config)).epsilon() == 0


def test_a_late_site_measures_a_crafted_state_from_the_start(config: RunConfig) -> None:
    worker = federation_of(config).worker(0)
    request = request_to(worker, 2)
    crafted = {part: vector + np.float32(1.0) for part, vector in request.state.vectors.items()}
    state = type(request.state)(request.state.manifest_hash, crafted)
    with pytest.raises(ContractError, match="moved by"):
        worker.visit(VisitRequest("run", 2, False, request.fingerprint, 0.0, state))
    assert worker.visit(request).state is not None


def test_whether_a_state_is_within_reach_says_nothing_of_a_private_sites_records(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site that comes late has nothing to compare with, and nobody has paid for a look at its records."""
    worker = federation_of(config, privacy="required(epsilon=8)").worker(0)
    request = request_to(worker, 2)
    crafted = {part: vector + np.float32(1.0) for part, vector in request.state.vectors.items()}
    monkeypatch.setattr(worker, "data", None, raising=True)
    monkeypatch.setattr("clients.site_training.SiteTraining.train", _never)
    monkeypatch.setattr("fedmedpeft.training.private.PrivateTrainer.train", _never)
    with pytest.raises(ContractError, match="moved by"):
        worker.visit(replace(request, state=type(request.state)(request.state.manifest_hash, crafted)))
    assert Ledger.read(ledger_of(config)).epsilon() == 0


def _never(*_: object, **__: object) -> None:
    raise AssertionError("trained on records")


def test_noise_alone_reaches_about_as_far_as_private_steps(config: RunConfig) -> None:
    worker = federation_of(config, privacy="required(epsilon=2)").worker(0)
    reply = visit(worker)
    trained = worker.learner.export(worker.contract.manifest)
    assert reply.state is not None
    training = SiteTraining(worker.config, worker.data, worker.model, worker.store, worker.features)
    step = moved(trained, (worker.initial.only(trained.manifest),))
    assert 0.3 * step < training.reach(private=True) < 3 * step
