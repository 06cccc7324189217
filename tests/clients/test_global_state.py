"""A site whose method trains and exchanges another part in each round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.simulated_site import SimulatedFederation
from clients.worker import SiteWorker
from fedmedpeft.config import RunConfig
from fedmedpeft.data.split import Split
from fedmedpeft.exchange import (
    Contract,
    ContractError,
    JoinRequest,
    PeftState,
    ReferenceRequest,
    Refusal,
    SiteError,
    VisitReply,
    VisitRequest,
)
from fedmedpeft.training import LocalTrainer, TrainingResult

BLOCKS = ("blocks.0", "blocks.1")


def _changed(config: RunConfig, **values: object) -> SimulatedFederation:
    return SimulatedFederation(
        RunConfig.from_mapping({**config.to_mapping(), "method": "sba", "inbound-factor": 0.0, **values}), 3
    )


@pytest.fixture
def worker(config: RunConfig) -> SiteWorker:
    return _changed(config).worker(0)


def _start(worker: SiteWorker) -> PeftState:
    return worker.initial.only(worker.contract.manifest)


def _request(
    worker: SiteWorker, state: PeftState, train: str, sends: str = "", round_: int = 1, *, last: bool = False
) -> VisitRequest:
    """What a server would send that wants the site to have ``state``."""
    rotation = worker.learner.rotation
    part = state.only(rotation.part(state.manifest, rotation.read(sends)))
    fingerprint = worker.learner.backbone.fingerprint
    return VisitRequest("run", round_, last, fingerprint, 0.0, part.encode(), train, sends, state.hash())


def _answer(worker: SiteWorker, reply: VisitReply, *train: str) -> PeftState:
    """The answer's state, which must be of exactly these groups and what takes no turns."""
    assert reply.state is not None
    manifest = worker.learner.rotation.part(worker.contract.manifest, train)
    return Contract(manifest).admit(reply.state)


def _moved(worker: SiteWorker, group: str, by: float = 0.01) -> PeftState:
    """The start, with one group moved, as the server might have aggregated it."""
    start = _start(worker)
    tensors = {name: values.copy() for name, values in start.tensors().items()}
    for name in worker.learner.rotation.groups[group]:
        tensors[name] += np.float32(by)
    return PeftState.from_tensors(start.manifest, tensors)


def test_only_what_was_drawn_is_trained_and_given_back(worker: SiteWorker) -> None:
    start = _start(worker)
    reply = worker.visit(_request(worker, start, "blocks.1"))
    back = _answer(worker, reply, "blocks.1").tensors()
    assert all(not np.array_equal(back[name], start.tensors()[name]) for name in back if not name.endswith("k.bias"))
    left = {name: worker.learner.trainables[name].parameter.detach().numpy() for name in start.tensors().keys() - back}
    assert left.keys() == worker.learner.rotation.groups["blocks.0"]
    assert all(np.array_equal(values, start.tensors()[name]) for name, values in left.items())


def test_what_rests_keeps_its_bits_and_its_momentum_whatever_the_optimiser_does(config: RunConfig) -> None:
    """Weight decay and moments of an earlier turn would move it if the optimiser looked at it."""
    worker = _changed(config, **{"weight-decay": 0.5}).worker(0)
    start, resting = _start(worker), worker.learner.rotation.groups["blocks.0"]
    worker.visit(_request(worker, start, "blocks.0"))
    moments = {n: t for n, t in worker.store.load("run").items() if n.startswith("moment/blocks.0.")}
    assert len(moments) == 3 * len(resting)
    worker.visit(_request(worker, start, "blocks.1", round_=2))
    for name in resting:
        assert np.array_equal(worker.learner.trainables[name].parameter.detach().numpy(), start.tensors()[name])
    kept = worker.store.load("run")
    assert all(np.array_equal(kept[name], moment) for name, moment in moments.items())


def test_all_blocks_at_once_are_attention_tuning(config: RunConfig) -> None:
    plain = {"keep-momentum": False}
    turning = _changed(config, method="sba(blocks=2)", **plain).worker(0)
    dense = _changed(config, method="attention", **plain).worker(0)
    ours = _answer(turning, turning.visit(_request(turning, _start(turning), ",".join(BLOCKS))), *BLOCKS)
    expected = _answer(dense, dense.visit(_request(dense, _start(dense), "")))
    assert ours.hash() == expected.hash()


def test_the_whole_is_put_together_from_what_came_and_what_is_there(worker: SiteWorker) -> None:
    """The start, then what each message brought: evaluated as if all of it had come at once."""
    first, second = _moved(worker, "blocks.0"), _moved(worker, "blocks.1", -0.02)
    both = first.updated(second.only(worker.learner.rotation.part(first.manifest, ["blocks.1"])))
    worker.visit(_request(worker, _start(worker), "blocks.0"))
    worker.visit(_request(worker, first, "blocks.1", sends="blocks.0", round_=2))
    reply = worker.visit(_request(worker, both, "", sends="blocks.1", round_=3, last=True))
    everything = replace(_request(worker, both, "", sends=",".join(BLOCKS), round_=3, last=True), run="other")
    assert reply.state is None
    assert worker.visit(everything).before["test"].loss == reply.before["test"].loss


def test_a_site_that_missed_something_refuses_until_it_is_sent(worker: SiteWorker) -> None:
    moved = _moved(worker, "blocks.0")
    with pytest.raises(SiteError) as raised:
        worker.visit(_request(worker, moved, "blocks.1", round_=2))
    assert raised.value.code is Refusal.STATE
    assert raised.value.reason == "its copy of the global state is stale"
    assert worker.store.load("run") == {}
    worker.visit(_request(worker, moved, "blocks.1", sends="blocks.0", round_=2))


def test_a_site_that_lost_its_store_refuses_and_is_healed_by_what_has_changed_since_the_start(
    worker: SiteWorker, tmp_path: Path
) -> None:
    moved = _moved(worker, "blocks.0")
    worker.visit(_request(worker, moved, "blocks.1", sends="blocks.0"))
    worker.visit(_request(worker, moved, "blocks.1", round_=2))
    for path in (tmp_path / "runs").rglob("*.safetensors"):
        path.unlink()
    with pytest.raises(SiteError, match="stale"):
        worker.visit(_request(worker, moved, "blocks.0", round_=2))
    worker.visit(_request(worker, moved, "blocks.0", sends="blocks.0", round_=2))


def test_what_went_back_to_the_start_need_not_be_sent_to_a_site_that_has_other_values(worker: SiteWorker) -> None:
    worker.visit(_request(worker, _moved(worker, "blocks.0"), "blocks.1", sends="blocks.0"))
    worker.visit(_request(worker, _start(worker), "blocks.1", round_=2))


@pytest.mark.parametrize(
    "change",
    [
        {"train": ""},
        {"train": "blocks.0,blocks.1"},
        {"train": "blocks.7"},
        {"train": "head"},
        {"sends": "blocks.7"},
        {"sends": "blocks.0"},  # named, and not there
        {"train": "blocks.0", "last": True, "round": 3},
    ],
)
def test_what_no_round_can_ask_for_is_refused(worker: SiteWorker, change: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        worker.visit(replace(_request(worker, _start(worker), "blocks.1"), **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"train": "blocks.0"}, {"sends": "blocks.0"}])
def test_without_a_rotation_there_is_nothing_to_name(config: RunConfig, change: dict[str, str]) -> None:
    worker = _changed(config, method="bitfit").worker(0)
    with pytest.raises(ContractError):
        worker.visit(replace(_request(worker, _start(worker), ""), **change))


def test_the_norm_ceiling_is_of_the_whole(config: RunConfig) -> None:
    probe = _changed(config).worker(0)
    start = _start(probe)
    rest = start.only(probe.learner.rotation.part(start.manifest, [])).norm()
    worker = _changed(config, **{"max-norm": (start.norm() + rest) / 2}).worker(0)
    with pytest.raises(ContractError, match="ceiling"):
        worker.visit(_request(worker, start, "blocks.0"))


def test_a_personal_rotation_takes_turns_at_the_site_alone(config: RunConfig) -> None:
    worker = _changed(config, personal="sba").worker(0)
    start, rotation = worker.initial, worker.learner.rotation
    back = _answer(worker, worker.visit(_request(worker, _start(worker), "blocks.0")), "blocks.0")
    assert {spec.part for spec in back.manifest.tensors} == {"head"}
    trained = worker.learner.export(start.manifest).tensors()
    for group, moves in (("blocks.0", True), ("blocks.1", False)):
        name = next(name for name in sorted(rotation.groups[group]) if name.endswith("q.weight"))
        assert np.array_equal(trained[name], start.tensors()[name]) is not moves


@pytest.mark.parametrize(("persist", "stays"), [("true", True), ("false", False)])
def test_a_personal_block_too_may_go_back_to_its_start(config: RunConfig, persist: str, stays: bool) -> None:
    settings = {"method": f"sba(persist={persist})", "personal": "sba", "personalise-steps": 0}
    worker = _changed(config, **settings).worker(0)
    start = worker.initial.tensors()
    worker.visit(_request(worker, _start(worker), "blocks.0"))
    worker.visit(_request(worker, _start(worker), "blocks.1", round_=2))
    worker.visit(_request(worker, _start(worker), "", round_=3, last=True))
    tested = worker.learner.export(worker.initial.manifest).tensors()
    assert np.array_equal(tested["blocks.0.q.weight"], start["blocks.0.q.weight"]) is not stays
    assert not np.array_equal(tested["blocks.1.q.weight"], start["blocks.1.q.weight"])


def test_a_visit_through_many_hands_gives_the_same_bits(config: RunConfig) -> None:
    fresh, used = (_changed(config, **{"keep-momentum": False}) for _ in range(2))
    for index in (2, 1):
        other = used.worker(index)
        other.visit(_request(other, _start(other), "blocks.0"))
    answers = []
    for federation in (fresh, used):
        worker = federation.worker(0)
        answers.append(_answer(worker, worker.visit(_request(worker, _start(worker), "blocks.1")), "blocks.1"))
    assert answers[0].hash() == answers[1].hash()


def test_afterwards_a_site_may_train_all_blocks_alone(config: RunConfig) -> None:
    worker = _changed(config, **{"personalise-steps": 2}).worker(0)
    worker.visit(_request(worker, _start(worker), "", round_=3, last=True))
    own = {name.removeprefix("own/"): t.numpy() for name, t in worker.store.load("run").items() if "own/" in name}
    for block in BLOCKS:
        assert not np.array_equal(own[f"{block}.q.weight"], worker.initial.tensors()[f"{block}.q.weight"])


@pytest.mark.parametrize("kind", ["local-only", "pooled"])
def test_references_draw_as_the_rounds_do(config: RunConfig, kind: str) -> None:
    worker = _changed(config, method="sba(order=cyclic)", rounds=1).worker(0)
    worker.reference(ReferenceRequest(kind))  # type: ignore[arg-type]
    trained = worker.learner.export(worker.initial.manifest).tensors()
    moved = {name for name, values in trained.items() if not np.array_equal(values, worker.initial.tensors()[name])}
    assert worker.learner.rotation.groups["blocks.1"].isdisjoint(moved)
    assert {"blocks.0.q.weight", "blocks.0.o.bias", "head.weight"} <= moved


@pytest.mark.parametrize(("persist", "stays"), [("true", True), ("false", False)])
def test_in_a_reference_too_a_block_may_go_back_to_its_start(config: RunConfig, persist: str, stays: bool) -> None:
    worker = _changed(config, method=f"sba(order=cyclic, persist={persist})").worker(0)
    worker.reference(ReferenceRequest("local-only"))
    trained = worker.learner.export(worker.initial.manifest).tensors()["blocks.0.q.weight"]
    assert np.array_equal(trained, worker.initial.tensors()["blocks.0.q.weight"]) is not stays


def test_a_local_reference_is_as_many_visits_of_a_federation_of_one(config: RunConfig) -> None:
    """The same draws and the same number of steps in each: only the order of the images differs."""
    worker = _changed(config, method="sba(order=cyclic)").worker(0)
    joined = worker.join(JoinRequest("run", send_state=False))
    assert joined.state_hash == _start(worker).hash()
    seen: list[tuple[bool, int, int]] = []
    train = LocalTrainer.train

    def spy(self: LocalTrainer, split: Split, *, first_step: int, steps: int, seed: int) -> TrainingResult:
        drawn = self.learner.trainables["blocks.0.q.weight"].parameter.requires_grad
        seen.append((drawn, steps, first_step))
        return train(self, split, first_step=first_step, steps=steps, seed=seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalTrainer, "train", spy)
        worker.reference(ReferenceRequest("local-only"))
        alone, seen[:] = list(seen), []
        worker.visit(_request(worker, _start(worker), "blocks.0"))
        worker.visit(_request(worker, _start(worker), "blocks.1", round_=2))
    assert alone == seen == [(True, 2, 0), (False, 2, 2)]
