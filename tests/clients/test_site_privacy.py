from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.simulated_site import SimulatedFederation
from clients.site_training import carried
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import (
    JoinRequest,
    ReferenceRequest,
    Refusal,
    SiteError,
    VisitRequest,
)
from fedmedpeft.privacy.domain import Verdict
from tests.clients.private_visits import federation_of, ledger_of, visit


def test_a_site_with_privacy_says_so_and_keeps_its_loss(config: RunConfig) -> None:
    worker = federation_of(config, privacy="required(epsilon=8)").worker(0)
    assert worker.join(JoinRequest("run", send_state=False)).private == "record"
    reply = visit(worker)
    assert reply.private == "record"
    assert math.isnan(reply.loss)
    assert reply.state is not None
    assert reply.epsilon is not None
    assert 0 < reply.epsilon < 8
    assert reply.delta == pytest.approx(0.1 / len(worker.data.train))


def test_without_privacy_nothing_is_said_of_it(federation: SimulatedFederation, config: RunConfig) -> None:
    reply = visit(federation.worker(0))
    assert (reply.private, reply.epsilon, reply.delta) == ("", None, None)
    assert math.isfinite(reply.loss)
    assert not ledger_of(config).exists()


def test_two_updates_of_one_visit_differ(config: RunConfig) -> None:
    """Neither sampling nor noise follows from the run's seed, which the server knows."""
    changes = {"privacy": "required(epsilon=8)", "keep_momentum": False}
    states = []
    for name in ("one", "other"):
        worker = federation_of(config, **changes, runs_dir=str(Path(config.runs_dir) / name)).worker(0)
        states.append(visit(worker).state)
    one, other = states
    assert one is not None
    assert other is not None
    assert all(not np.array_equal(one.vectors[part], other.vectors[part]) for part in one.vectors)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "batchnorm"}, "batchnorm"),
        ({"privacy": "required(unit=patient)"}, "patient"),
    ],
)
def test_what_cannot_be_private_is_refused_at_joining(
    config: RunConfig, changes: dict[str, Any], says: str, tiny_resnet: Path
) -> None:
    backbone = str(tiny_resnet) if "method" in changes else config.backbone
    federation = federation_of(config, **{"privacy": "required(epsilon=8)", "backbone": backbone, **changes})
    with pytest.raises(SiteError) as refused:
        federation.worker(0).join(JoinRequest("run", send_state=False))
    assert refused.value.code == Refusal.PRIVACY
    assert says in refused.value.reason


def test_no_reference_and_no_scores_of_its_own_copy_leave_a_site_with_privacy(config: RunConfig) -> None:
    worker = federation_of(config, privacy="required(epsilon=8)", inbound_factor=0.0).worker(0)
    with pytest.raises(SiteError) as refused:
        worker.reference(ReferenceRequest("local-only"))
    assert refused.value.code == Refusal.PRIVACY
    visit(worker, 1)
    assert set(visit(worker, 3, last=True).before) == {"val", "test"}
    assert any(name.startswith("own/") for name in worker.store.load("run"))


def test_what_it_spent_is_told_only_where_it_wants_to(config: RunConfig) -> None:
    reply = visit(federation_of(config, privacy="required(epsilon=8, report=false)").worker(0))
    assert (reply.private, reply.epsilon, reply.delta) == ("record", None, None)


def test_patients_are_what_epsilon_is_per_where_the_data_knows_them(config: RunConfig) -> None:
    data = "phantoms(images=120, scanners=3, size=32, patients=60)"
    worker = federation_of(config, data=data, privacy="required(epsilon=8)").worker(0)
    reply = visit(worker)
    assert reply.private == "patient"
    assert worker.data.train.patient_of is not None
    patients = len(set(worker.data.train.patient_of.tolist()))
    assert reply.delta == pytest.approx(0.1 / patients)
    assert patients < len(worker.data.train)


def test_auto_is_on_where_the_site_says_that_it_is_out_of_the_domain(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.simulated_site.domain_verdict", lambda *_: Verdict(False, 0.1, "near"))
    federation = federation_of(config, privacy="auto(epsilon=8)", out_of_domain="scanner-01")
    assert [federation.worker(i).join(JoinRequest("run", send_state=False)).private for i in range(3)] == [
        "",
        "record",
        "",
    ]


def test_auto_is_on_where_nobody_can_tell(config: RunConfig) -> None:
    """A backbone that brings no reference of its domain."""
    assert federation_of(config, privacy="auto(epsilon=8)").worker(0).privacy.private == "record"


def test_lora_trains_one_factor(config: RunConfig) -> None:
    federation = federation_of(config, privacy="required(epsilon=8)")
    assert federation.config.method == "lora(rank=2, factors='ffa')" or "ffa" in federation.config.method
    names = [spec.name for spec in federation.worker(0).contract.manifest.tensors]
    assert not any(name.endswith("lora_A") for name in names)
    both = federation_of(config, privacy="required(epsilon=8)", method="lora(rank=2, factors=both)")
    assert any(spec.name.endswith("lora_A") for spec in both.worker(0).contract.manifest.tensors)


def test_nothing_that_was_trained_without_privacy_is_in_a_private_update(config: RunConfig) -> None:
    """Momentum and personal parts of earlier visits, where the site's settings change during a run."""
    changes = {"method": "lora(rank=2, factors=ffa)+layernorm"}
    public = federation_of(config, **changes).worker(0)
    visit(public)
    kept = public.store.load("run")
    assert any(name.startswith("moment/") for name in kept)
    assert any(name.startswith("personal/") for name in kept)
    assert carried(kept, private=False) == kept
    assert carried(kept, private=True) == {}
    private = federation_of(config, **changes, privacy="required(epsilon=8)").worker(0)
    visit(private, 2)
    kept = private.store.load("run")
    steps = {float(tensor) for name, tensor in kept.items() if name.endswith("/step")}
    assert steps == {float(config.local_steps)}
    assert carried(kept, private=True).keys() == kept.keys()


def test_what_cannot_decide_auto_is_a_fault_of_the_settings(config: RunConfig, tmp_path: Path) -> None:
    federation = federation_of(config, privacy=f"auto(reference='{tmp_path / 'nowhere.json'}')")
    with pytest.raises(SiteError, match="cannot be read") as refused:
        federation.worker(0).join(JoinRequest("run", send_state=False))
    assert refused.value.code == Refusal.CONFIGURATION


def test_a_setting_for_a_site_that_does_not_exist_stops_the_sites_too(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'scanner-01'"):
        federation_of(config, privacy="auto", out_of_domain="scaner-01")


def test_how_far_training_diverged_is_not_told_where_the_site_noises_its_update(config: RunConfig) -> None:
    level = {"client_privacy": "fixed(clip=1, noise=1, noise_at=site, clip_at=site)", "weighting": "uniform"}
    changes = {"inbound_factor": 0.0, "max_norm": 20.0, "head_learning_rate": 50.0, "learning_rate": 50.0}
    with pytest.raises(SiteError) as refused:
        visit(federation_of(config, **changes, **level).worker(0))
    assert refused.value.reason == "training diverged; lower learning-rate"
    with pytest.raises(SiteError, match=r"diverged \(norm \d"):
        visit(federation_of(config, **changes).worker(0))


@pytest.mark.parametrize("noise_at", ["site", "server"])
def test_a_site_that_noises_its_update_scores_nothing_that_it_trained_without(config: RunConfig, noise_at: str) -> None:
    """Its copy of its own and a reference are trained on the same images, without any noise."""
    level = {"client_privacy": f"fixed(clip=1, noise=1, noise_at={noise_at}, clip_at=site)", "weighting": "uniform"}
    worker = federation_of(config, **level).worker(0)
    start = worker.initial.only(worker.contract.manifest).encode()
    last = VisitRequest("run", config.rounds + 1, True, worker.learner.backbone.fingerprint, 0.0, start)
    own = [] if noise_at == "site" else ["own-test", "own-val"]
    assert sorted(worker.visit(last).before) == [*own, "test", "val"]
    if noise_at == "server":
        assert "test" in worker.reference(ReferenceRequest("local-only")).scores
        return
    with pytest.raises(SiteError) as refused:
        worker.reference(ReferenceRequest("local-only"))
    assert refused.value.code is Refusal.PRIVACY
