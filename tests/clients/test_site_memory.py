"""Visits of a site whose memory does not hold a batch at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clients.simulated_site import SimulatedFederation
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Refusal, SiteError, VisitReply, VisitRequest
from fedmedpeft.privacy.ledger import Ledger
from fedmedpeft.tasks.classification import Classification
from fedmedpeft.training.per_unit import UnitGradients


def _visit(config: RunConfig) -> VisitReply:
    worker = SimulatedFederation(config, 3).worker(0)
    state = worker.initial.only(worker.contract.manifest).encode()
    return worker.visit(VisitRequest("run", 1, False, worker.learner.backbone.fingerprint, 0.0, state))


def _refusing_more_than(most: int, original: Callable[..., Any], place: int) -> Callable[..., Any]:
    """``original``, that runs out of memory where its argument number ``place`` has more than ``most`` rows."""

    def limited(*arguments: Any, **named: Any) -> Any:
        if len(arguments[place]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(*arguments, **named)

    return limited


def test_a_batch_in_parts_gives_the_same_update(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _visit(config)
    monkeypatch.setattr(Classification, "loss_of", _refusing_more_than(1, Classification.loss_of, 3))
    parts = _visit(config.model_copy(update={"runs_dir": str(tmp_path / "other")}))
    assert whole.state is not None
    assert parts.state is not None
    for part, vector in whole.state.vectors.items():
        np.testing.assert_allclose(parts.state.vectors[part], vector, atol=2e-4)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)


def test_memory_for_nothing_at_all_is_refused_by_name(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classification, "loss_of", _refusing_more_than(0, Classification.loss_of, 3))
    with pytest.raises(SiteError, match="memory") as refused:
        _visit(config)
    assert refused.value.code is Refusal.MEMORY


def test_private_training_is_begun_anew_with_fewer_records_and_paid_once(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"privacy": f"required(epsilon=50, physical_batch=64, ledger='{tmp_path / 'ledgers'}')", "batch-size": 16}
    tried: list[int] = []
    original = UnitGradients.sum

    def limited(self: UnitGradients, units: Any) -> Any:
        tried.append(self.physical_batch)
        if self.physical_batch > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, units)

    monkeypatch.setattr(UnitGradients, "sum", limited)
    reply = _visit(RunConfig.from_mapping(config.to_mapping() | values))
    assert reply.steps == 2
    assert list(dict.fromkeys(tried)) == [64, 32, 16, 8]
    ledger = Ledger.read(next((tmp_path / "ledgers").glob("*.ledger.jsonl")))
    assert [spent.steps for spent in ledger.history] == [2]
