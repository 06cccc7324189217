"""BatchNorm statistics that stay at each site: from visit to visit, and never on the wire."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.simulated_site import SimulatedFederation
from clients.worker import SiteWorker
from fedmedpeft.config import RunConfig
from fedmedpeft.data.split import Split
from fedmedpeft.exchange import (
    EncodedState,
    JoinRequest,
    ReferenceRequest,
    Refusal,
    SiteError,
    VisitReply,
    VisitRequest,
)
from fedmedpeft.training import LearnerPredictor, LocalTrainer, TrainingResult

_SITE = "batchnorm(statistics='site')"
Build = Callable[..., SimulatedFederation]


@pytest.fixture
def build(config: RunConfig, tiny_resnet: Path, tmp_path: Path) -> Build:
    """Two hospitals with a ResNet."""

    def federation(runs: str = "runs", **changes: object) -> SimulatedFederation:
        values = {
            **config.to_mapping(),
            "backbone": str(tiny_resnet),
            "data": "phantoms(images=80, scanners=2, size=32)",
            "method": _SITE,
            "runs-dir": str(tmp_path / runs),
        }
        return SimulatedFederation(RunConfig.from_mapping({**values, **changes}), 2)

    return federation


def _visit(worker: SiteWorker, round_: int = 1, state: EncodedState | None = None, *, last: bool = False) -> VisitReply:
    state = state or worker.join(JoinRequest("run", send_state=True)).state
    assert state is not None
    return worker.visit(VisitRequest("run", round_, last, worker.learner.backbone.fingerprint, 0.0, state))


def _statistics(worker: SiteWorker) -> dict[str, torch.Tensor]:
    """What is in the site's store."""
    names = worker.learner.kept().keys()
    return {name: tensor for name, tensor in worker.store.load("run").items() if name.partition("/")[2] in names}


def test_each_site_has_statistics_of_its_own(build: Build) -> None:
    federation = build()
    workers = [federation.worker(index) for index in range(2)]
    for worker in workers:
        _visit(worker)
    one, other = (_statistics(worker) for worker in workers)
    assert one.keys() == other.keys() == {f"personal/{name}" for name in federation.learner.kept()}
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_no_message_holds_them(build: Build) -> None:
    worker, frozen = build().worker(0), build(method="batchnorm").worker(0)
    assert worker.contract.manifest == frozen.contract.manifest
    reply = _visit(worker)
    assert reply.state is not None
    assert {p: v.size for p, v in reply.state.vectors.items()} == {
        part: worker.contract.manifest.numel(part)
        for part in ("method", "head")  # type: ignore[arg-type]
    }
    sent = np.concatenate(list(reply.state.vectors.values()))
    for tensor in _statistics(worker).values():
        assert not np.isin(tensor.numpy(), sent).any()


def test_they_come_back_in_a_new_process_and_decide_the_scores(build: Build) -> None:
    first = build()
    trained = _visit(first.worker(0)).state
    kept = _statistics(first.worker(0))
    again = build()
    before = _visit(again.worker(0), 2, trained).before["val"]
    elsewhere = build("elsewhere")
    without = _visit(elsewhere.worker(0), 2, trained).before["val"]
    assert before.loss != without.loss
    again.learner.load_kept({name.removeprefix("personal/"): tensor for name, tensor in kept.items()})
    again.learner.load(again.worker(0).contract.admit(trained))  # type: ignore[arg-type]
    with torch.no_grad():
        split = again.worker(0).data.val
        loss = LearnerPredictor(again.learner).evaluate(split).loss
    assert loss == pytest.approx(before.loss, rel=1e-6)


def test_a_neighbour_in_the_same_process_changes_nothing(build: Build) -> None:
    alone, shared = build("alone"), build("shared")
    for round_ in (1, 2):
        expected = _visit(alone.worker(0), round_)
        _visit(shared.worker(1), round_)
        found = _visit(shared.worker(0), round_)
    assert found.before == expected.before
    assert found.state is not None
    assert expected.state is not None
    for part, vector in expected.state.vectors.items():
        assert np.array_equal(found.state.vectors[part], vector)
    one, other = _statistics(alone.worker(0)), _statistics(shared.worker(0))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_last_visit_leaves_the_federated_statistics_and_adds_the_own_ones(build: Build) -> None:
    worker = build().worker(0)
    state = _visit(worker).state
    federated = {name: tensor for name, tensor in _statistics(worker).items() if name.startswith("personal/")}
    reply = _visit(worker, 3, state, last=True)
    kept = _statistics(worker)
    own = {name.removeprefix("own/") for name in kept if name.startswith("own/")}
    assert own == worker.learner.kept().keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in federated.items())
    assert not any(torch.equal(kept[f"own/{name}"], kept[f"personal/{name}"]) for name in own)
    assert _visit(worker, 3, state, last=True).before == reply.before


@pytest.mark.parametrize("kind", ["local-only", "pooled"])
def test_a_reference_starts_from_pretrained_statistics_and_is_scored_with_its_own(build: Build, kind: str) -> None:
    fresh, used, frozen = build(), build("used"), build("frozen", method="batchnorm")
    for index in (0, 1):
        _visit(used.worker(index))
    request = ReferenceRequest(kind)  # type: ignore[arg-type]
    expected = fresh.worker(0).reference(request).scores
    assert used.worker(0).reference(request).scores == expected
    assert frozen.worker(0).reference(request).scores != expected


def test_statistics_that_diverged_are_not_kept(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = build().worker(0)
    train = LocalTrainer.train

    def spoil(self: LocalTrainer, split: Split, **stretch: int) -> TrainingResult:
        result = train(self, split, **stretch)
        next(iter(worker.learner.kept().values()))[0] = torch.inf
        return result

    monkeypatch.setattr(LocalTrainer, "train", spoil)
    with pytest.raises(SiteError) as raised:
        _visit(worker)
    assert raised.value.code is Refusal.TRAINING
    assert not worker.store.load("run")
    monkeypatch.undo()
    assert _visit(worker).state is not None


def test_everything_of_batchnorm_may_stay(build: Build) -> None:
    """FedBN (Li et al., ICLR 2021): statistics, scale and shift."""
    worker = build(personal="batchnorm").worker(0)
    reply = _visit(worker)
    assert reply.state is not None
    assert set(reply.state.vectors) == {"head"}
    stays = {name for name in worker.store.load("run") if name.startswith("personal/")}
    assert stays == {
        f"personal/{place.key}.{name}"
        for place in worker.learner.backbone.places("batchnorm")
        for name in ("weight", "bias", "running_mean", "running_var")
    }


def test_a_batch_of_one_image_trains(build: Build) -> None:
    worker = build(**{"batch-size": 1}).worker(0)
    start = {name: tensor.clone() for name, tensor in worker.learner.kept().items()}
    reply = _visit(worker)
    assert np.isfinite(reply.loss)
    assert all(torch.equal(_statistics(worker)[f"personal/{name}"], tensor) for name, tensor in start.items())
    assert reply.steps == 2


def test_the_same_run_gives_the_same_bits(build: Build) -> None:
    one, other = build("one"), build("other")
    states = [_visit(federation.worker(1)).state for federation in (one, other)]
    assert states[0] is not None
    assert states[1] is not None
    assert all(np.array_equal(states[0].vectors[part], states[1].vectors[part]) for part in states[0].vectors)
    kept = [_statistics(federation.worker(1)) for federation in (one, other)]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
