"""A visit asked for once more: by a server that was killed before it could use the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.simulated_site import SimulatedFederation
from clients.worker import SiteWorker
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import EncodedState, PeftState, Refusal, SiteError, VisitReply, VisitRequest
from fedmedpeft.exchange import flower as wire


def _worker(config: RunConfig) -> SiteWorker:
    """Of a process that has just started."""
    return SimulatedFederation(config, 3).worker(0)


def _request(worker: SiteWorker, round_: int, state: EncodedState | None = None) -> VisitRequest:
    contract = worker.contract
    start = worker.initial.only(contract.manifest).encode()
    return VisitRequest("run", round_, False, worker.learner.backbone.fingerprint, 0.0, state or start)


def _bytes(reply: VisitReply) -> bytes:
    return wire.pack(wire.encode(reply))


def _moved(state: EncodedState) -> EncodedState:
    return EncodedState(
        state.manifest_hash, {part: vector + np.float32(1e-4) for part, vector in state.vectors.items()}
    )


def test_the_same_request_gets_the_same_bytes_and_trains_nothing(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = _worker(config)
    first = worker.visit(_request(worker, 1))
    again = _worker(config)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it trained again")

    monkeypatch.setattr("fedmedpeft.training.LocalTrainer.train", never)
    assert again.repeated.answer(_request(again, 1)) is not None
    assert _bytes(again.visit(_request(again, 1))) == _bytes(first)


def test_the_last_two_rounds_can_be_asked_for(config: RunConfig) -> None:
    worker = _worker(config)
    first = worker.visit(_request(worker, 1))
    assert first.state is not None
    second = worker.visit(_request(worker, 2, first.state))
    worker = _worker(config)
    assert _bytes(worker.visit(_request(worker, 1))) == _bytes(first)
    assert _bytes(worker.visit(_request(worker, 2, first.state))) == _bytes(second)


def test_another_request_for_a_done_round_starts_from_before_it(config: RunConfig, tmp_path: Path) -> None:
    """As if the first had never come: momentum and personal parts are those from before the round."""
    worker = _worker(config)
    first = worker.visit(_request(worker, 1))
    assert first.state is not None
    other = _moved(first.state)
    worker.visit(_request(worker, 2, first.state))
    mended = worker.visit(_request(worker, 2, other))

    fresh = _worker(config.model_copy(update={"runs_dir": str(tmp_path / "other")}))
    fresh.visit(_request(fresh, 1))
    expected = fresh.visit(_request(fresh, 2, other))
    assert replace(mended, seconds=0.0, state=None) == replace(expected, seconds=0.0, state=None)
    assert mended.state is not None
    assert expected.state is not None
    for part, vector in expected.state.vectors.items():
        np.testing.assert_array_equal(mended.state.vectors[part], vector)
    left, right = worker.store.load("run"), fresh.store.load("run")
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    # And once more: the round before is still the one before.
    assert _bytes(worker.visit(_request(worker, 2, other))) == _bytes(mended)


def test_an_older_round_with_other_content_is_refused(config: RunConfig) -> None:
    worker = _worker(config.model_copy(update={"rounds": 3}))
    state = worker.visit(_request(worker, 1)).state
    assert state is not None
    for round_ in (2, 3):
        worker.visit(_request(worker, round_, state))
    with pytest.raises(SiteError, match="trained round 3 already") as refusal:
        worker.visit(_request(worker, 2, _moved(state)))
    assert refusal.value.code is Refusal.REPEATED


def test_another_run_of_the_same_name_starts_anew(config: RunConfig, tmp_path: Path) -> None:
    worker = _worker(config)
    state = worker.visit(_request(worker, 1)).state
    worker.visit(_request(worker, 2, state))
    changed = config.model_copy(update={"local_steps": 3})
    second_life = _worker(changed)
    reply = second_life.visit(_request(second_life, 1))
    fresh = _worker(changed.model_copy(update={"runs_dir": str(tmp_path / "other")}))
    assert replace(reply, seconds=0.0, state=None) == replace(fresh.visit(_request(fresh, 1)), seconds=0.0, state=None)
    assert second_life.store.load_before("run") == {}


def test_a_repetition_is_not_paid_for_and_another_training_is(config: RunConfig) -> None:
    private = RunConfig.from_mapping(
        config.to_mapping() | {"privacy": "required(epsilon=500, noise_multiplier=1.0)", "inbound-factor": 0.0}
    )
    worker = _worker(private)

    def spent() -> float:
        now = worker.privacy.spent("run")
        assert now is not None
        return now.epsilon

    first = worker.visit(_request(worker, 1))
    assert first.state is not None
    worker.visit(_request(worker, 2, first.state))
    before = spent()
    worker.visit(_request(worker, 2, first.state))
    assert spent() == before
    worker.visit(_request(worker, 2, _moved(first.state)))
    assert spent() > before


def test_a_site_that_noises_its_updates_does_so_once_a_round(config: RunConfig) -> None:
    noised = RunConfig.from_mapping(
        config.to_mapping()
        | {"client-privacy": "fixed(clip=1.0, noise=1.0, clip_at=site, noise_at=site)", "inbound-factor": 0.0}
    )
    worker = _worker(noised)
    request = replace(_request(worker, 1), clip=1.0)
    first = worker.visit(request)
    assert _bytes(worker.visit(request)) == _bytes(first)
    with pytest.raises(SiteError, match="adds its noise only once"):
        worker.visit(replace(request, proximal=0.5))


def test_a_visit_that_could_not_be_kept_is_not_answered(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer and store are one file: an answer that leaves has been kept."""
    worker = _worker(config)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("clients.site_store.write_atomically", full)
        with pytest.raises(OSError, match="No space left"):
            worker.visit(_request(worker, 1))
    assert worker.store.answered("run") == ()
    assert worker.visit(_request(worker, 1)).steps == 2


def test_what_was_kept_and_is_damaged_is_refused_by_name(config: RunConfig, tmp_path: Path) -> None:
    worker = _worker(config)
    state = worker.visit(_request(worker, 1)).state
    path = next((tmp_path / "runs").rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SiteError, match="damaged") as refusal:
        worker.visit(_request(worker, 2, state))
    assert refusal.value.code is Refusal.STATE
    assert str(path) not in refusal.value.reason


def test_the_initial_state_helper_is_the_workers(config: RunConfig) -> None:
    """What these tests send in round 1 is what a server sends."""
    worker = _worker(config)
    sent = PeftState(worker.contract.manifest, dict(_request(worker, 1).state.vectors))  # type: ignore[arg-type]
    assert sent.hash() == worker.initial.only(worker.contract.manifest).hash()
