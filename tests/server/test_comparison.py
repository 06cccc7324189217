from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from fedmedpeft.exchange import PeftState, VisitReply
from server.comparison import Comparison
from server.quarantine import Vetted
from tests.server import scripted_sites as script


@pytest.fixture
def start(tmp_path: Path) -> PeftState:
    return script.state_of(script.manifest_of(script.run_config(tmp_path)))


def answer(start: PeftState, step: float) -> Vetted:
    """A vetted answer that moved every number by ``step``."""
    state = PeftState(start.manifest, {part: vector + np.float32(step) for part, vector in start.vectors.items()})
    reply = VisitReply("site", 1, {}, 10, 0.5, 10, 0.1, state.encode())
    return Vetted(reply, {}, state, abs(step) * math.sqrt(start.manifest.numel()))


def answers(start: PeftState, **steps: float) -> dict[str, Vetted]:
    return {site: answer(start, step) for site, step in steps.items()}


def test_answers_of_like_size_count_and_one_that_is_larger_does_not(start: PeftState) -> None:
    sent = dict.fromkeys("abcd", "s")
    comparison = Comparison(spread=4.0)
    assert comparison.refused(1, answers(start, a=1.0, b=1.1, c=0.9, d=-1.2), sent) == {}
    assert list(comparison.refused(2, answers(start, a=1.3, b=1.4, c=0.8, d=90.0), sent)) == ["d"]


def test_only_like_is_compared_with_like(start: PeftState) -> None:
    """Four sites train a part of the tensors that moves less, one trains another part."""
    head = {spec.name for spec in start.manifest.tensors if "head" in spec.name}
    assert head
    part = start.only(start.manifest.only(head))
    mixed = answers(part, a=1e-3, b=1.1e-3, c=0.9e-3, d=1.2e-3) | answers(start, e=1.0)
    assert Comparison(spread=4.0).refused(1, mixed, dict.fromkeys("abcde", "s")) == {}


def test_the_longest_round_so_far_says_what_is_usual(start: PeftState) -> None:
    """Four sites have learnt all there was; the fifth has not, and is no outlier for that."""
    sent = dict.fromkeys("abcde", "s")
    late = answers(start, a=0.01, b=0.012, c=0.009, d=0.011, e=1.5)
    assert list(Comparison(spread=4.0).refused(9, late, sent)) == ["e"]
    comparison = Comparison(spread=4.0)
    assert comparison.refused(1, answers(start, a=1.0, b=1.2, c=0.9, d=1.1, e=1.3), sent) == {}
    resumed = Comparison(spread=4.0)
    resumed.resume(json.loads(json.dumps(comparison.state())))
    for known in (comparison, resumed):
        assert known.refused(9, late, sent) == {}
        assert list(known.refused(10, late | answers(start, e=50.0), sent)) == ["e"]


def test_rounds_of_few_tensors_do_not_make_long_ones_of_many_unusual(start: PeftState) -> None:
    sent = dict.fromkeys("abcd", "s")
    part = start.only(start.manifest.only({start.manifest.tensors[0].name}))
    comparison = Comparison(spread=4.0)
    assert comparison.refused(1, answers(part, a=1.0, b=1.2, c=0.9, d=1.1), sent) == {}
    assert comparison.refused(2, answers(start, a=1.1, b=1.3, c=0.8, d=1.2), sent) == {}
    assert comparison.state()["usual"] == pytest.approx(1.15, rel=1e-3)


def test_an_earlier_answer_to_another_state_is_a_replay(start: PeftState) -> None:
    comparison = Comparison()
    assert comparison.refused(1, answers(start, a=1.0, b=2.0), {"a": "one", "b": "one"}) == {}
    assert comparison.refused(2, answers(start, a=3.0, b=4.0), {"a": "two", "b": "two"}) == {}
    again = comparison.refused(3, answers(start, a=1.0, b=5.0), {"a": "three", "b": "three"})
    assert again == {"a": "sends back its state of round 1"}
    once_more = comparison.refused(4, answers(start, a=1.0, b=6.0), {"a": "four", "b": "four"})
    assert once_more == {"a": "sends back its state of round 1"}


def test_the_same_answer_to_the_same_state_is_honest(start: PeftState) -> None:
    """A round without enough answers leaves the state as it was, and training is deterministic."""
    comparison = Comparison()
    for round_ in (1, 2, 3):
        assert comparison.refused(round_, answers(start, a=1.0), {"a": "one"}) == {}


def test_another_sites_earlier_answer_is_no_replay_of_ones_own(start: PeftState) -> None:
    comparison = Comparison()
    comparison.refused(1, answers(start, a=1.0), {"a": "one"})
    assert comparison.refused(2, answers(start, b=1.0), {"b": "two"}) == {}


def test_two_equal_answers_count_neither(start: PeftState) -> None:
    found = Comparison().refused(1, answers(start, a=1.0, b=1.0, c=2.0), dict.fromkeys("abc", "s"))
    assert set(found) == {"a", "b"}
    assert all("another site sends" in reason and "'" not in reason for reason in found.values())


def test_with_privacy_of_whole_sites_no_site_decides_about_another(start: PeftState) -> None:
    comparison = Comparison(spread=4.0, among_sites=False)
    sent = dict.fromkeys("abcde", "s")
    assert comparison.refused(1, answers(start, a=1.0, b=1.0, c=1.1, d=0.9, e=90.0), sent) == {}
    replayed = comparison.refused(2, answers(start, a=1.0, b=2.0, c=1.2, d=0.8, e=70.0), dict.fromkeys("abcde", "t"))
    assert list(replayed) == ["a"]


def test_what_is_remembered_survives_a_file(start: PeftState) -> None:
    before = Comparison()
    before.refused(1, answers(start, a=1.0), {"a": "one"})
    after = Comparison()
    after.resume(json.loads(json.dumps(before.state())))
    assert after.state() == before.state()
    assert after.refused(2, answers(start, a=1.0), {"a": "two"}) == {"a": "sends back its state of round 1"}


def test_memory_is_bounded_and_the_oldest_goes_first(start: PeftState) -> None:
    comparison = Comparison()
    for round_ in range(1, 61):
        comparison.refused(round_, answers(start, a=float(round_)), {"a": str(round_)})
    assert sorted(round_ for round_, _ in comparison.state()["answered"]["a"].values()) == list(range(11, 61))
