from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st

from fedmedpeft.exchange import Contract, EncodedState, Scores, VisitRequest
from fedmedpeft.exchange import flower as wire
from fedmedpeft.tasks import Classification
from server.courier import Courier
from server.quarantine import Expected, Quarantined, Vetted, vet_scores, vet_visit
from simulations.local_grid import LocalGrid
from tests.server import scripted_sites as script

TASK = Classification(script.CLASSES)
HELD = {"train": 10, "val": 20, "test": 20}


@pytest.fixture
def visit(tmp_path: Path) -> Callable[..., Vetted]:
    """Visit one site with a twist and judge its answer."""
    manifest = script.manifest_of(script.run_config(tmp_path))
    state = script.state_of(manifest)

    def act(twist: script.Twist | None = None, *, last: bool = False, private: str = "") -> Vetted:
        site = script.ScriptedSite("site-0", state, twists={3: twist} if twist else {})
        request = VisitRequest("run", 3, last, script.FINGERPRINT, 0.0, state.encode())
        answer = Courier(LocalGrid({1: site}), 0.05, [].append).ask("rounds", wire.VISIT, {1: request})[1]
        contract = Contract(manifest, max_norm=1e4)
        return vet_visit(answer, Expected("site-0", HELD, 3, last, TASK, contract, state, private, not private))

    return act


def test_a_good_answer_counts(visit: Callable[..., Vetted]) -> None:
    vetted = visit()
    assert vetted.state is not None
    assert vetted.reply.samples == 10
    assert vetted.scores["val"].metrics["balanced_accuracy"] == 0.8


def test_an_evaluation_has_scores_and_no_state(visit: Callable[..., Vetted]) -> None:
    vetted = visit(last=True)
    assert vetted.state is None
    assert set(vetted.scores) == {"val", "test"}


def test_a_private_site_keeps_its_loss_to_itself(visit: Callable[..., Vetted]) -> None:
    said = {"private": "patient", "epsilon": 2.5, "delta": 1e-4}
    reply = visit(script.changed(loss=math.nan, **said), private="patient").reply
    assert (reply.private, reply.epsilon, reply.delta) == ("patient", 2.5, 1e-4)


def test_a_private_site_has_no_infinite_loss_either(visit: Callable[..., Vetted]) -> None:
    with pytest.raises(Quarantined, match="not finite"):
        visit(script.changed(loss=-math.inf, private="patient"), private="patient")


def test_a_site_cannot_drop_the_privacy_it_joined_with(visit: Callable[..., Vetted]) -> None:
    with pytest.raises(Quarantined, match="another privacy"):
        visit(private="patient")


def _swap_manifest(message: Message, reply: Any) -> Message:
    return script.changed(state=EncodedState("0" * 64, reply.state.vectors))(message, reply)


def _without_part(message: Message, reply: Any) -> Message:
    vectors = {part: vector for part, vector in reply.state.vectors.items() if part != "head"}
    return script.changed(state=EncodedState(reply.state.manifest_hash, vectors))(message, reply)


BAD: dict[str, tuple[script.Twist, str]] = {
    "raising": (script.raising, "raised RuntimeError"),
    "silent": (script.silent, "no answer within"),
    "refusing": (script.refusing, "too few images"),
    "garbage": (script.garbage, "no fields"),
    "broken array": (script.broken_array, "cannot be decoded"),
    "untrained": (script.untrained, "untrained"),
    "no state": (script.changed(state=None), "sends no state"),
    "other manifest": (_swap_manifest, "manifest 000000000000 differs"),
    "missing part": (_without_part, "parts"),
    "wrong length": (script.with_vectors(lambda part, v: v[:-1]), "of shape"),
    "wrong dtype": (script.with_vectors(lambda part, v: v.astype(np.float64)), "float64"),
    "not finite": (script.with_vectors(lambda part, v: np.where(v == v[0], np.float32(np.nan), v)), "not finite"),
    "too large": (script.with_vectors(lambda part, v: v * np.float32(1e6)), "above the ceiling"),
    "other site": (script.changed(site="site-1"), "answers as 'site-1', joined as 'site-0'"),
    "stale round": (script.changed(round=2), "answers for round 2, asked for round 3"),
    "no samples": (script.changed(samples=0), "reports 0 training images"),
    "negative samples": (script.changed(samples=-5), "reports -5 training images"),
    "grown samples": (script.changed(samples=10**9), "joined with 10"),
    "no steps": (script.changed(steps=0), "0 optimiser steps"),
    "diverged": (script.changed(loss=math.nan), "training loss is not finite"),
    "endless": (script.changed(seconds=math.inf), "not a number of seconds"),
    "false counts": (script.changed(before={"val": Scores(20, 0.5, {}, [1, 0, 0, 1])}), "do not fit 20 samples"),
    "negative counts": (script.changed(before={"val": Scores(20, 0.5, {}, [20, -1, 0, 1])}), "do not fit 20 samples"),
    "more classes": (script.changed(before={"val": Scores(20, 0.5, {}, [12, *[1] * 8])}), "do not fit 20 samples"),
    "more images than it has": (script.changed(before={"val": Scores(99, 0.5, {}, [99, 0, 0, 0])}), "joined with 20"),
    "counts beyond 64 bits": (
        script.changed(before={"val": Scores(20, 0.5, {}, [2**63, 0, 0, 2**63 - 2])}),
        "do not fit 20 samples",
    ),
    "no scores": (script.changed(before={}), "sends no scores of val"),
    "scores nobody asked for": (
        script.changed(before={"val": Scores(20, 0.5, {}, [10, 0, 0, 10]), "ward 7": Scores(1, 0.5, {}, [1, 0, 0, 0])}),
        "'ward 7', which was not asked for",
    ),
    "privacy that it joined without": (script.changed(private="patient"), "another privacy"),
    "negative epsilon": (script.changed(epsilon=-1.0, delta=0.1), "epsilon that is not"),
    "epsilon that is no number": (script.changed(epsilon=math.nan, delta=0.1), "epsilon that is not"),
    "impossible delta": (script.changed(epsilon=1.0, delta=1.0), "delta that is not"),
    "epsilon without delta": (script.changed(epsilon=1.0), "one of epsilon and delta"),
    "delta without epsilon": (script.changed(delta=0.1), "one of epsilon and delta"),
    "infinite loss": (script.changed(loss=math.inf), "training loss is not finite"),
    "bad loss": (script.changed(before={"val": Scores(20, math.nan, {}, [10, 0, 0, 10])}), "loss of 'val'"),
}


@pytest.mark.parametrize("twist", [pytest.param(twist, id=name) for name, twist in BAD.items()])
def test_a_bad_answer_is_left_out_with_its_reason(
    visit: Callable[..., Vetted], twist: tuple[script.Twist, str]
) -> None:
    with pytest.raises(Quarantined, match=twist[1]) as caught:
        visit(twist[0])
    reason = str(caught.value)
    assert len(reason) <= 200
    assert reason.isprintable()
    assert script.PATIENT not in reason


def _rounded(message: Message, reply: Any) -> Message:
    """Every number of what came, moved to its neighbour."""
    sent = wire.decode_visit_request(message.content).state
    near = {part: np.nextafter(vector, np.float32(np.inf)) for part, vector in sent.vectors.items()}
    return script.changed(state=EncodedState(sent.manifest_hash, near))(message, reply)


def _signed_zeros(message: Message, reply: Any) -> Message:
    sent = wire.decode_visit_request(message.content).state
    equal = {part: vector + np.float32(-0.0) for part, vector in sent.vectors.items()}
    return script.changed(state=EncodedState(sent.manifest_hash, equal))(message, reply)


@pytest.mark.parametrize("twist", [_rounded, _signed_zeros])
def test_rounding_is_no_training(visit: Callable[..., Vetted], twist: script.Twist) -> None:
    with pytest.raises(Quarantined, match="untrained"):
        visit(twist)


def test_a_small_step_is_training(visit: Callable[..., Vetted]) -> None:
    """A thousandth of what the least honest round moved."""
    length = visit(script.with_vectors(lambda part, v: v - np.float32(1.0 - 3e-6))).length
    assert 0 < length < 1e-3


def test_the_length_is_that_of_the_update(visit: Callable[..., Vetted]) -> None:
    vetted = visit()
    assert vetted.state is not None
    assert vetted.length == pytest.approx(math.sqrt(vetted.state.manifest.numel()), rel=1e-5)


@pytest.mark.parametrize(
    ("last", "withheld", "changes"),
    [
        (False, "val", {"before": {}}),
        (False, "loss", {"loss": math.nan}),
        (False, "val,test,loss", {"before": {}, "loss": math.nan}),
        (True, "val,test", {"before": {}}),
        (True, "test", {"before": {"val": script.scores(8, 2)}}),
        (True, "test", {"before": {"val": script.scores(8, 2), "own-test": script.scores(9, 1)}}),
        (True, "val, test,loss", {"before": {}, "loss": math.nan}),
    ],
)
def test_what_a_policy_keeps_back_is_missed_by_nobody(
    visit: Callable[..., Vetted], last: bool, withheld: str, changes: dict[str, Any]
) -> None:
    vetted = visit(script.changed(withheld=withheld, **changes), last=last)
    assert vetted.withheld == tuple(name.strip() for name in withheld.split(","))
    assert (vetted.state is None) == last
    assert set(vetted.scores) == set(changes.get("before", {"val"}))


@pytest.mark.parametrize(
    ("last", "changes", "reason"),
    [
        (False, {"withheld": "loss", "before": {}, "loss": math.nan}, "sends no scores of val"),
        (False, {"withheld": "val", "before": {}, "loss": math.nan}, "training loss is not finite"),
        (True, {"withheld": "val", "before": {}}, "sends no scores of test"),
        (False, {"withheld": "val"}, "says that it withholds 'val', and sends it"),
        (False, {"withheld": "loss"}, "says that it withholds 'loss', and sends it"),
        (False, {"withheld": f"val,{script.PATIENT}\nward 7", "before": {}}, "not one of val, test, loss"),
        (False, {"withheld": "train", "before": {}}, "withholds 'train', not one of"),
        (False, {"withheld": ",", "before": {}}, "withholds ''"),
    ],
)
def test_nothing_is_missing_that_is_not_named(
    visit: Callable[..., Vetted], last: bool, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Quarantined, match=reason):
        visit(script.changed(**changes), last=last)


def test_metrics_are_those_of_the_counts_whatever_a_site_claims() -> None:
    claimed = {"balanced_accuracy": 1.0, "auroc": 0.7, "name_of_patient": 1.0}
    vetted = vet_scores({"val": Scores(4, 0.5, claimed, [2, 0, 2, 0])}, TASK, {"val": 4})["val"]
    assert vetted.metrics["balanced_accuracy"] == 0.5
    assert vetted.metrics["auroc"] == 0.7
    assert set(vetted.metrics) == {"accuracy", "balanced_accuracy", "macro_f1", "quadratic_kappa", "auroc"}
    absurd = {"val": Scores(4, 0.5, {"auroc": 7.0}, [2, 0, 2, 0])}
    assert "auroc" not in vet_scores(absurd, TASK, {"val": 4})["val"].metrics


def test_an_empty_split_has_no_metrics() -> None:
    assert vet_scores({"val": Scores(0, math.nan, {}, [0] * 4)}, TASK, {"val": 0})["val"].metrics == {}


@given(st.lists(st.integers(-2, 9), min_size=3, max_size=5), st.integers(-1, 1))
def test_only_counts_that_add_up_pass(counts: list[int], missing: int) -> None:
    samples = sum(counts) + missing
    adds_up = len(counts) == 4 and min(counts) >= 0 and missing == 0
    try:
        vet_scores({"val": Scores(samples, 0.5, {}, counts)}, TASK, {"val": samples})
    except Quarantined:
        assert not adds_up
    else:
        assert adds_up
