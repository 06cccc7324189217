from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.simulated_site import SimulatedFederation
from clients.worker import SiteWorker
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import (
    AnswersRequest,
    ContractError,
    EncodedState,
    JoinRequest,
    ReferenceRequest,
    Refusal,
    SiteError,
    VisitReply,
    VisitRequest,
)


def _state(worker: SiteWorker) -> EncodedState:
    state = worker.join(JoinRequest("run", send_state=True)).state
    assert state is not None
    return state


def _request(worker: SiteWorker, round_: int = 1, *, last: bool = False, run: str = "run") -> VisitRequest:
    fingerprint = worker.learner.backbone.fingerprint
    return VisitRequest(run, round_, last, fingerprint, 0.0, _state(worker))


def _changed(config: RunConfig, **values: object) -> SimulatedFederation:
    return SimulatedFederation(RunConfig.from_mapping({**config.to_mapping(), **values}), 3)


def _equal(one: VisitReply, other: VisitReply) -> bool:
    assert one.state is not None
    assert other.state is not None
    return all(np.array_equal(one.state.vectors[part], other.state.vectors[part]) for part in one.state.vectors)


def test_all_sites_join_with_the_same_state(federation: SimulatedFederation) -> None:
    replies = [federation.worker(i).join(JoinRequest("run", send_state=i == 0)) for i in range(3)]
    assert len({(r.fingerprint, r.manifest_hash, r.state_hash, r.classes) for r in replies}) == 1
    assert len({r.site for r in replies}) == 3
    assert replies[0].synthetic
    assert replies[0].state is not None
    assert replies[1].state is None


def test_a_visit_trains_and_returns_only_the_contracts_tensors(federation: SimulatedFederation) -> None:
    worker = federation.worker(0)
    request = _request(worker)
    reply = worker.visit(request)
    assert reply.state is not None
    worker.contract.admit(reply.state)
    assert any(not np.array_equal(reply.state.vectors[p], request.state.vectors[p]) for p in request.state.vectors)
    assert (reply.round, reply.steps, reply.samples) == (1, 2, len(worker.data.train.labels))
    assert set(reply.before) == {"val"}


def test_the_last_visit_only_evaluates(federation: SimulatedFederation) -> None:
    worker = federation.worker(1)
    reply = worker.visit(_request(worker, 3, last=True))
    assert reply.state is None
    assert math.isnan(reply.loss)
    assert set(reply.before) == {"val", "test", "own-val", "own-test"}
    assert reply.before["test"].samples == len(worker.data.test.labels)


def test_a_visit_depends_on_the_request_alone(config: RunConfig) -> None:
    """Whoever used the shared learner before, in whichever process, the bits are the same."""
    fresh, used = _changed(config, **{"keep-momentum": False}), _changed(config, **{"keep-momentum": False})
    for index in (2, 1, 2):
        used.worker(index).visit(_request(used.worker(index)))
    assert _equal(fresh.worker(0).visit(_request(fresh.worker(0))), used.worker(0).visit(_request(used.worker(0))))


def test_the_backbone_is_bit_identical_after_training(federation: SimulatedFederation) -> None:
    worker = federation.worker(0)
    exchanged = {id(t.parameter) for t in worker.learner.trainables.values()}
    frozen = {n: p.detach().clone() for n, p in worker.learner.named_parameters() if id(p) not in exchanged}
    worker.visit(_request(worker))
    worker.reference(ReferenceRequest("local-only"))
    parameters = dict(worker.learner.named_parameters())
    assert all((parameters[name] == before).all() for name, before in frozen.items())


def test_momentum_is_kept_between_visits(config: RunConfig) -> None:
    kept = _changed(config).worker(0)
    forgotten = _changed(config, **{"keep-momentum": False, "runs-dir": f"{config.runs_dir}-other"}).worker(0)
    first = [worker.visit(_request(worker, 1)) for worker in (kept, forgotten)]
    second = [worker.visit(_request(worker, 2)) for worker in (kept, forgotten)]
    assert _equal(*first)
    assert not _equal(*second)


def test_personal_parts_stay_and_come_back(config: RunConfig) -> None:
    federation = _changed(config, personal="head", **{"personalise-steps": 0})
    worker, neighbour = federation.worker(0), federation.worker(1)
    reply = worker.visit(_request(worker))
    assert reply.state is not None
    assert set(reply.state.vectors) == {"method"}
    head = worker.learner.head.weight.detach().clone()
    neighbour.visit(_request(neighbour))
    assert not (worker.learner.head.weight == head).all()
    worker.visit(replace(_request(worker, 3, last=True), state=reply.state))
    assert (worker.learner.head.weight == head).all()


def test_another_run_starts_anew(config: RunConfig) -> None:
    worker = _changed(config, personal="head").worker(0)
    first = worker.visit(_request(worker, run="one"))
    assert _equal(first, worker.visit(_request(worker, run="two")))


@pytest.mark.parametrize("part", ["method", "head"])
def test_a_state_that_breaks_the_contract_is_refused_before_anything_is_touched(
    federation: SimulatedFederation, part: str
) -> None:
    worker = federation.worker(0)
    request = _request(worker)
    before = worker.learner.export(worker.learner.manifest()).hash()
    broken = replace(request.state, vectors={**request.state.vectors, part: np.full(3, np.nan, np.float32)})
    with pytest.raises(ContractError):
        worker.visit(replace(request, state=broken))
    assert worker.learner.export(worker.learner.manifest()).hash() == before


def test_another_backbone_is_refused(federation: SimulatedFederation) -> None:
    worker = federation.worker(0)
    with pytest.raises(SiteError) as raised:
        worker.visit(replace(_request(worker), fingerprint="0" * 64))
    assert raised.value.code is Refusal.BACKBONE


@pytest.mark.parametrize(
    "change",
    [{"run": "../../escaped"}, {"run": "/tmp/x"}, {"run": ""}, {"round": 0}, {"round": 99}, {"proximal": -1.0}],
)
def test_what_no_run_can_ask_for_is_refused(federation: SimulatedFederation, change: dict[str, object]) -> None:
    worker = federation.worker(0)
    with pytest.raises(ContractError):
        worker.visit(replace(_request(worker), **change))  # type: ignore[arg-type]


def test_a_last_step_that_diverges_keeps_nothing(config: RunConfig, tmp_path: Path) -> None:
    """The loss of a single step is finite even where the step itself is not."""
    changes = {"method": "lora+layernorm", "learning-rate": 1e30, "local-steps": 1, "warmup-fraction": 0.0}
    worker = _changed(config, **changes).worker(0)
    with pytest.raises(SiteError) as raised:
        worker.visit(_request(worker))
    assert raised.value.code is Refusal.TRAINING
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_training_that_diverges_is_refused_and_keeps_nothing(config: RunConfig, tmp_path: Path) -> None:
    worker = _changed(config, **{"learning-rate": 1e30, "gradient-clip": 0.0, "local-steps": 5}).worker(0)
    with pytest.raises(SiteError) as raised:
        worker.visit(_request(worker))
    assert raised.value.code is Refusal.TRAINING
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


def test_references(federation: SimulatedFederation) -> None:
    local = federation.worker(2).reference(ReferenceRequest("local-only"))
    assert set(local.scores) == {"test", "union"}
    pooled = federation.worker(0).reference(ReferenceRequest("pooled"))
    sites = federation.partition.sites
    assert set(pooled.scores) == {"union", *(f"test/{site}" for site in sites)}
    assert pooled.scores["union"].samples == local.scores["union"].samples
    assert sum(pooled.scores[f"test/{site}"].samples for site in sites) == pooled.scores["union"].samples


def test_a_reference_does_not_depend_on_what_came_before(config: RunConfig) -> None:
    one, other = _changed(config), _changed(config)
    other.worker(0).visit(_request(other.worker(0)))
    first, second = (f.worker(0).reference(ReferenceRequest("local-only")) for f in (one, other))
    assert first.scores["test"].loss == second.scores["test"].loss


def test_pooled_needs_everyones_data(federation: SimulatedFederation) -> None:
    worker = federation.worker(0)
    worker.everyone = None
    with pytest.raises(SiteError, match="simulation only"):
        worker.reference(ReferenceRequest("pooled"))
    assert set(worker.reference(ReferenceRequest("local-only")).scores) == {"test"}


def test_the_personalised_model_stays_at_the_site(config: RunConfig, tmp_path: Path) -> None:
    worker = _changed(config, **{"personalise-steps": 3}).worker(0)
    request = _request(worker, 3, last=True)
    reply = worker.visit(request)
    assert reply.state is None
    kept = worker.store.load("run")
    own = {name.removeprefix("own/"): tensor for name, tensor in kept.items() if name.startswith("own/")}
    assert own.keys() == worker.learner.trainables.keys()
    assert not np.array_equal(own["head.weight"].numpy(), worker.initial.tensors()["head.weight"])
    assert worker.visit(request).before["own-test"].loss == reply.before["own-test"].loss


def test_no_personalisation_where_none_is_wanted(config: RunConfig) -> None:
    worker = _changed(config, **{"personalise-steps": 0}).worker(0)
    assert set(worker.visit(_request(worker, 3, last=True)).before) == {"val", "test"}


@pytest.mark.parametrize("changes", [{}, {"task": "generation"}, {"task": "vqa(answers='{list}')"}])
def test_a_site_names_answers_only_where_the_run_agrees_on_them(
    config: RunConfig, tmp_path: Path, changes: dict[str, str]
) -> None:
    (tmp_path / "list.txt").write_text("yes\n")
    worker = _changed(config).worker(0)
    worker.data.train.answers = ("rare", "yes", "yes")
    task = changes.get("task", "classification").format(list=tmp_path / "list.txt")
    worker.config = worker.config.model_copy(update={"task": task})
    with pytest.raises(ContractError, match="does not agree on"):
        worker.answers(AnswersRequest("run"))
    worker.config = worker.config.model_copy(update={"task": "vqa"})
    assert worker.answers(AnswersRequest("run")).counts == {"yes": 2}
