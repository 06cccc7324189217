from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from clients.preflight import model
from clients.preflight.announced_run import check_settings
from clients.preflight.facts import Facts
from clients.preflight.machine import check_disk
from clients.preflight.model import check_backbone, check_device, check_memory
from clients.preflight.own_data import check_counts, check_data
from clients.preflight.trial import Trial, try_batch
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig


@pytest.fixture
def ready(facts_of: Callable[..., Facts]) -> Callable[..., Facts]:
    """Facts up to the loaded backbone, for a run with some keys."""

    def make(run: dict[str, Any] | None = None, **changes: Any) -> Facts:
        facts = facts_of(**changes)
        facts.announced = RunConfig.from_mapping({"method": "lora(rank=2)", "min-train-per-site": 2, **(run or {})})
        assert check_settings(facts).status == "pass"
        check_data(facts)
        check_counts(facts)
        check_backbone(facts)
        return facts

    return make


def test_the_device(facts_of: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_device(facts_of()).status == "pass"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    missing = check_device(facts_of(device="cuda:1"))
    assert (missing.status, "it sees 0" in missing.text) == ("fail", True)
    assert check_device(facts_of(device="auto")).status == "warn"


def test_fingerprints(facts_of: Callable[..., Facts], ready: Callable[..., Facts]) -> None:
    facts = ready()
    mark = facts.backbone.fingerprint
    good = check_backbone(facts)
    assert (good.status, mark in good.text) == ("pass", True)
    assert check_backbone(ready(policy={"backbones": [mark]})).status == "pass"
    other = check_backbone(ready(policy={"backbones": ["f" * 64]}))
    assert (other.status, mark in other.text) == ("fail", True)
    assert check_backbone(ready({"backbone-fingerprint": mark})).status == "pass"
    assert check_backbone(ready({"backbone-fingerprint": "e" * 64})).status == "fail"


def test_a_backbone_that_is_not_there(facts_of: Callable[..., Facts], tmp_path: Path) -> None:
    facts = facts_of(backbones={"embedded": str(tmp_path / "none")})
    check_settings(facts)
    with pytest.raises(ConfigError):
        check_backbone(facts)


def test_memory(ready: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = ready()
    before = {key: p.clone() for key, p in facts.backbone.original_parameters().items()}
    assert check_memory(facts).status == "pass"
    assert facts.learner is not None
    learner = facts.learner
    assert all(torch.equal(p, before[key]) for key, p in learner.backbone.original_parameters().items())
    assert all(t.parameter.grad is None for t in learner.trainables.values())
    assert not learner.training
    monkeypatch.setattr(model, "free_memory", lambda: 0)
    tight = check_memory(ready())
    assert tight.status == "fail", tight.text
    rows = facts.partition.rows("hospital-a", "train")
    data = 40 * 3 * 32 * 32
    trial = try_batch(learner, facts.config, facts.source, rows)
    monkeypatch.setattr(model, "free_memory", lambda: int((trial.training_bytes + data) / 0.9) - trial.model_bytes)
    assert check_memory(ready()).status == "warn"


def test_a_step_is_weighed(ready: Callable[..., Facts]) -> None:
    def trial(run: dict[str, Any], **changes: Any) -> Trial:
        facts = ready(run, **changes)
        check_memory(facts)
        assert facts.learner is not None
        return try_batch(facts.learner, facts.config, facts.source, facts.partition.rows("hospital-a", "train"))

    small, large = trial({"batch-size": 4}), trial({"batch-size": 16})
    assert (small.rows, large.rows) == (4, 16)
    grown = (large.training_bytes - large.model_bytes) / (small.training_bytes - small.model_bytes)
    assert 2 < grown < 4.1
    private = trial({"batch-size": 16}, privacy="required(epsilon=8)")
    assert private.training_bytes > large.training_bytes


def test_a_method_that_does_not_fit_the_backbone(ready: Callable[..., Facts]) -> None:
    with pytest.raises(ConfigError, match="batchnorm"):
        check_memory(ready({"method": "batchnorm"}))


def test_room_for_what_stays_after_each_round(ready: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = ready()
    check_memory(facts)
    assert facts.learner is not None
    payload = facts.learner.manifest().nbytes
    monkeypatch.setattr("clients.preflight.machine._LOG_ROOM", 0)
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Room(3 * payload - 1))
    assert check_disk(facts).status == "fail"
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Room(3 * payload))
    assert check_disk(facts).status == "warn"


class _Room:
    def __init__(self, free: int) -> None:
        self.free = free
