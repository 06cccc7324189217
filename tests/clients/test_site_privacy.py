from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.inbound import moved
from clients.simulated_site import SimulatedFederation
from clients.site_training import SiteTraining, carried
from clients.worker import SiteWorker
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import (
    ContractError,
    JoinRequest,
    ReferenceRequest,
    Refusal,
    SiteError,
    VisitReply,
    VisitRequest,
)
from fedmedpeft.privacy.domain import Verdict
from fedmedpeft.privacy.ledger import Ledger


def _federation(config: RunConfig, **changes: object) -> SimulatedFederation:
    values = {key.replace("_", "-"): value for key, value in changes.items()}
    return SimulatedFederation(RunConfig.from_mapping(config.to_mapping() | values), 3)


def _request(worker: SiteWorker, round_: int = 1, *, last: bool = False) -> VisitRequest:
    state = worker.join(JoinRequest("run", send_state=True)).state
    assert state is not None
    return VisitRequest("run", round_, last, worker.learner.backbone.fingerprint, 0.0, state)


def _visit(worker: SiteWorker, round_: int = 1, *, last: bool = False) -> VisitReply:
    return worker.visit(_request(worker, round_, last=last))


def _ledger(config: RunConfig, site: str = "scanner-00") -> Path:
    return Path(config.runs_dir) / "run" / "sites" / f"{site}.ledger.jsonl"


def test_a_site_with_privacy_says_so_and_keeps_its_loss(config: RunConfig) -> None:
    worker = _federation(config, privacy="required(epsilon=8)").worker(0)
    assert worker.join(JoinRequest("run", send_state=False)).private == "record"
    reply = _visit(worker)
    assert reply.private == "record"
    assert math.isnan(reply.loss)
    assert reply.state is not None
    assert reply.epsilon is not None
    assert 0 < reply.epsilon < 8
    assert reply.delta == pytest.approx(0.1 / len(worker.data.train))


def test_without_privacy_nothing_is_said_of_it(federation: SimulatedFederation, config: RunConfig) -> None:
    reply = _visit(federation.worker(0))
    assert (reply.private, reply.epsilon, reply.delta) == ("", None, None)
    assert math.isfinite(reply.loss)
    assert not _ledger(config).exists()


def test_the_whole_run_keeps_to_the_budget(config: RunConfig) -> None:
    """As planned at the first visit: with the last round the budget is spent, and not passed."""
    worker = _federation(config, privacy="required(epsilon=2)", inbound_factor=0.0).worker(0)
    spent = [_visit(worker, round_).epsilon for round_ in (1, 2)]
    last = _visit(worker, 3, last=True)
    assert spent[0] is not None
    assert spent[1] is not None
    assert spent[0] < spent[1] == last.epsilon
    assert 1.9 < spent[1] <= 2


def test_two_updates_of_one_visit_differ(config: RunConfig) -> None:
    """Neither sampling nor noise follows from the run's seed, which the server knows."""
    changes = {"privacy": "required(epsilon=8)", "keep_momentum": False}
    states = []
    for name in ("one", "other"):
        worker = _federation(config, **changes, runs_dir=str(Path(config.runs_dir) / name)).worker(0)
        states.append(_visit(worker).state)
    one, other = states
    assert one is not None
    assert other is not None
    assert all(not np.array_equal(one.vectors[part], other.vectors[part]) for part in one.vectors)


def test_a_round_beyond_the_budget_is_refused_before_it_trains(config: RunConfig) -> None:
    worker = _federation(config, privacy="required(epsilon=2, noise_multiplier=0.9)", inbound_factor=0.0).worker(0)
    _visit(worker, 1)
    before, kept = _ledger(config).read_bytes(), worker.store.load("run")
    with pytest.raises(SiteError) as refused:
        _visit(worker, 2)
    assert refused.value.code == Refusal.BUDGET
    assert not any(character.isdigit() for character in refused.value.reason)
    assert _ledger(config).read_bytes() == before
    assert worker.store.load("run").keys() == kept.keys()
    # It still tests what the others learn.
    assert _visit(worker, 3, last=True).before["test"].samples


def test_training_that_was_cut_short_stays_paid(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = _federation(config, privacy="required(epsilon=8)").worker(0)

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clients.site_training.PrivateTrainer.train", cut)
        with pytest.raises(KeyboardInterrupt):
            _visit(worker)
    paid = Ledger.read(_ledger(config)).epsilon()
    assert paid > 0
    again = _visit(worker).epsilon
    assert again is not None
    assert again > paid


def test_a_durable_ledger_outlives_its_runs(config: RunConfig, tmp_path: Path) -> None:
    privacy = f"required(epsilon=8, noise_multiplier=2, ledger='{tmp_path / 'ledgers'}')"
    spent = []
    for name in ("one", "other"):
        runs_dir = str(Path(config.runs_dir) / name)
        spent.append(_visit(_federation(config, privacy=privacy, runs_dir=runs_dir).worker(0)).epsilon)
    assert spent[0] is not None
    assert spent[1] is not None
    assert spent[1] > spent[0]


def test_a_data_set_that_changed_under_its_ledger(config: RunConfig, tmp_path: Path) -> None:
    """Known at joining: a run that cannot be paid for does not begin."""
    privacy = f"required(epsilon=8, ledger='{tmp_path / 'ledgers'}')"
    _visit(_federation(config, privacy=privacy).worker(0))
    other = _federation(config, privacy=privacy, partition_seed=1, runs_dir=str(tmp_path / "other")).worker(0)
    with pytest.raises(SiteError) as refused:
        other.join(JoinRequest("run", send_state=False))
    assert refused.value.code == Refusal.PRIVACY
    assert "data" in refused.value.reason
    assert str(tmp_path) not in refused.value.reason


@pytest.mark.parametrize("run", ["../elsewhere", "", ".."])
def test_a_run_whose_name_is_a_path_cannot_be_joined(config: RunConfig, run: str) -> None:
    with pytest.raises(ContractError, match="plain name"):
        _federation(config, privacy="required(epsilon=8)").worker(0).join(JoinRequest(run, send_state=False))


def test_an_edited_ledger_is_refused(config: RunConfig) -> None:
    worker = _federation(config, privacy="required(epsilon=8)", inbound_factor=0.0).worker(0)
    _visit(worker)
    path = _ledger(config)
    path.write_text(path.read_text().replace('"steps":2', '"steps":1'))
    with pytest.raises(SiteError) as refused:
        _visit(worker, 2)
    assert refused.value.code == Refusal.PRIVACY
    assert str(path) not in refused.value.reason


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
    federation = _federation(config, **{"privacy": "required(epsilon=8)", "backbone": backbone, **changes})
    with pytest.raises(SiteError) as refused:
        federation.worker(0).join(JoinRequest("run", send_state=False))
    assert refused.value.code == Refusal.PRIVACY
    assert says in refused.value.reason


def test_a_delta_that_is_not_below_one_over_n(config: RunConfig) -> None:
    worker = _federation(config, privacy="required(epsilon=8, delta=0.5)").worker(0)
    with pytest.raises(SiteError) as refused:
        worker.join(JoinRequest("run", send_state=False))
    assert refused.value.code == Refusal.PRIVACY
    assert "delta" in refused.value.reason


def test_no_reference_and_no_scores_of_its_own_copy_leave_a_site_with_privacy(config: RunConfig) -> None:
    worker = _federation(config, privacy="required(epsilon=8)", inbound_factor=0.0).worker(0)
    with pytest.raises(SiteError) as refused:
        worker.reference(ReferenceRequest("local-only"))
    assert refused.value.code == Refusal.PRIVACY
    _visit(worker, 1)
    assert set(_visit(worker, 3, last=True).before) == {"val", "test"}
    assert any(name.startswith("own/") for name in worker.store.load("run"))


def test_what_it_spent_is_told_only_where_it_wants_to(config: RunConfig) -> None:
    reply = _visit(_federation(config, privacy="required(epsilon=8, report=false)").worker(0))
    assert (reply.private, reply.epsilon, reply.delta) == ("record", None, None)


def test_patients_are_what_epsilon_is_per_where_the_data_knows_them(config: RunConfig) -> None:
    data = "phantoms(images=120, scanners=3, size=32, patients=60)"
    worker = _federation(config, data=data, privacy="required(epsilon=8)").worker(0)
    reply = _visit(worker)
    assert reply.private == "patient"
    assert worker.data.train.patient_of is not None
    patients = len(set(worker.data.train.patient_of.tolist()))
    assert reply.delta == pytest.approx(0.1 / patients)
    assert patients < len(worker.data.train)


def test_auto_is_on_where_the_site_says_that_it_is_out_of_the_domain(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.simulated_site.domain_verdict", lambda *_: Verdict(False, 0.1, "near"))
    federation = _federation(config, privacy="auto(epsilon=8)", out_of_domain="scanner-01")
    assert [federation.worker(i).join(JoinRequest("run", send_state=False)).private for i in range(3)] == [
        "",
        "record",
        "",
    ]


def test_auto_is_on_where_nobody_can_tell(config: RunConfig) -> None:
    """A backbone that brings no reference of its domain."""
    assert _federation(config, privacy="auto(epsilon=8)").worker(0).privacy.private == "record"


def test_lora_trains_one_factor(config: RunConfig) -> None:
    federation = _federation(config, privacy="required(epsilon=8)")
    assert federation.config.method == "lora(rank=2, factors='ffa')" or "ffa" in federation.config.method
    names = [spec.name for spec in federation.worker(0).contract.manifest.tensors]
    assert not any(name.endswith("lora_A") for name in names)
    both = _federation(config, privacy="required(epsilon=8)", method="lora(rank=2, factors=both)")
    assert any(spec.name.endswith("lora_A") for spec in both.worker(0).contract.manifest.tensors)


def test_a_crafted_state_is_refused_before_anything_is_paid(config: RunConfig) -> None:
    worker = _federation(config, privacy="required(epsilon=8)").worker(0)
    request = _request(worker)
    crafted = {part: vector + np.float32(0.01) for part, vector in request.state.vectors.items()}
    state = type(request.state)(request.state.manifest_hash, crafted)
    with pytest.raises(ContractError, match="round 1"):
        worker.visit(VisitRequest("run", 1, False, request.fingerprint, 0.0, state))
    assert Ledger.read(_ledger(config)).epsilon() == 0


def test_a_late_site_measures_a_crafted_state_from_the_start(config: RunConfig) -> None:
    worker = _federation(config).worker(0)
    request = _request(worker, 2)
    crafted = {part: vector + np.float32(1.0) for part, vector in request.state.vectors.items()}
    state = type(request.state)(request.state.manifest_hash, crafted)
    with pytest.raises(ContractError, match="moved by"):
        worker.visit(VisitRequest("run", 2, False, request.fingerprint, 0.0, state))
    assert worker.visit(request).state is not None


def test_whether_a_state_is_within_reach_says_nothing_of_a_private_sites_records(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site that comes late has nothing to compare with, and nobody has paid for a look at its records."""
    worker = _federation(config, privacy="required(epsilon=8)").worker(0)
    request = _request(worker, 2)
    crafted = {part: vector + np.float32(1.0) for part, vector in request.state.vectors.items()}
    monkeypatch.setattr(worker, "data", None, raising=True)
    monkeypatch.setattr("clients.site_training.SiteTraining.train", _never)
    monkeypatch.setattr("fedmedpeft.training.private.PrivateTrainer.train", _never)
    with pytest.raises(ContractError, match="moved by"):
        worker.visit(replace(request, state=type(request.state)(request.state.manifest_hash, crafted)))
    assert Ledger.read(_ledger(config)).epsilon() == 0


def _never(*_: object, **__: object) -> None:
    raise AssertionError("trained on records")


def test_noise_alone_reaches_about_as_far_as_private_steps(config: RunConfig) -> None:
    worker = _federation(config, privacy="required(epsilon=2)").worker(0)
    reply = _visit(worker)
    trained = worker.learner.export(worker.contract.manifest)
    assert reply.state is not None
    training = SiteTraining(worker.config, worker.data, worker.model, worker.store, worker.features)
    step = moved(trained, (worker.initial.only(trained.manifest),))
    assert 0.3 * step < training.reach(private=True) < 3 * step


def test_nothing_that_was_trained_without_privacy_is_in_a_private_update(config: RunConfig) -> None:
    """Momentum and personal parts of earlier visits, where the site's settings change during a run."""
    changes = {"method": "lora(rank=2, factors=ffa)+layernorm"}
    public = _federation(config, **changes).worker(0)
    _visit(public)
    kept = public.store.load("run")
    assert any(name.startswith("moment/") for name in kept)
    assert any(name.startswith("personal/") for name in kept)
    assert carried(kept, private=False) == kept
    assert carried(kept, private=True) == {}
    private = _federation(config, **changes, privacy="required(epsilon=8)").worker(0)
    _visit(private, 2)
    kept = private.store.load("run")
    steps = {float(tensor) for name, tensor in kept.items() if name.endswith("/step")}
    assert steps == {float(config.local_steps)}
    assert carried(kept, private=True).keys() == kept.keys()


def test_a_run_with_a_name_that_its_ledger_knows_is_planned_anew(config: RunConfig, tmp_path: Path) -> None:
    """With the noise of the first one the budget would be gone before its end, or not be used."""
    spent, noises = [], []
    for number, (epsilon, rounds) in enumerate([(1, 2), (8, 2), (8, 3)]):
        privacy = f"required(epsilon={epsilon}, ledger='{tmp_path / 'ledgers'}')"
        runs_dir = str(Path(config.runs_dir) / str(number))
        spent.append(_visit(_federation(config, privacy=privacy, rounds=rounds, runs_dir=runs_dir).worker(0)).epsilon)
        ledger = Ledger.read(tmp_path / "ledgers" / "scanner-00.ledger.jsonl")
        noises.append(ledger.history[-1].noise_multiplier)
    assert noises[0] > noises[2] > noises[1]


def test_what_cannot_decide_auto_is_a_fault_of_the_settings(config: RunConfig, tmp_path: Path) -> None:
    federation = _federation(config, privacy=f"auto(reference='{tmp_path / 'nowhere.json'}')")
    with pytest.raises(SiteError, match="cannot be read") as refused:
        federation.worker(0).join(JoinRequest("run", send_state=False))
    assert refused.value.code == Refusal.CONFIGURATION


def test_a_setting_for_a_site_that_does_not_exist_stops_the_sites_too(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'scanner-01'"):
        _federation(config, privacy="auto", out_of_domain="scaner-01")


def test_how_far_training_diverged_is_not_told_where_the_site_noises_its_update(config: RunConfig) -> None:
    level = {"client_privacy": "fixed(clip=1, noise=1, noise_at=site, clip_at=site)", "weighting": "uniform"}
    changes = {"inbound_factor": 0.0, "max_norm": 20.0, "head_learning_rate": 50.0, "learning_rate": 50.0}
    with pytest.raises(SiteError) as refused:
        _visit(_federation(config, **changes, **level).worker(0))
    assert refused.value.reason == "training diverged; lower learning-rate"
    with pytest.raises(SiteError, match=r"diverged \(norm \d"):
        _visit(_federation(config, **changes).worker(0))
