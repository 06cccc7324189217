"""Runs that are there to find out about a site's data are refused by name; ordinary ones are not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from clients.egress.run_rules import findings
from clients.policy_section import PolicySection
from fedmedpeft.config import RunConfig
from fedmedpeft.methods import METHODS

_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another seed": ({"partition-seed": 1}, "partition-seed=1 .*partition-seed: 0"),
    "one patient more": ({"val-fraction": 0.151}, "val-fraction=0.151 .*val-fraction: 0.15"),
    "one patient less": ({"test-fraction": 0.249}, "test-fraction=0.249"),
    "the gradient of an image": ({"local-steps": 1, "batch-size": 1}, "update of 1 images .*smallest-count: 10"),
    "of nine": ({"local-steps": 3, "batch-size": 3}, "update of 9 images"),
    "a step size": ({"learning-rate": 0.2}, "learning-rate=0.2, .*most-learning-rate: 0.1"),
    "of the head": ({"head-learning-rate": 1.0}, "head-learning-rate=1, "),
    "a scale": ({"learning-rate": 0.05, "learning-rate-scale": 3.0}, "learning-rate=0.15, "),
    "a scale of what is recommended": ({"method": "lora", "learning-rate-scale": 1e6}, "learning-rate="),
    "decay": ({"weight-decay": 1e3}, "weight-decay=1000 at head-learning-rate=0.005"),
}


def _found(rules: dict[str, Any], **asked: Any) -> list[str]:
    return list(findings(PolicySection(**rules), RunConfig.from_mapping(asked)))


@pytest.mark.parametrize(("asked", "words"), _REFUSED.values(), ids=_REFUSED)
def test_what_would_tell_too_much_is_named(asked: dict[str, Any], words: str) -> None:
    found = _found({}, **asked)
    assert any(re.search(words, finding) for finding in found), found


def test_what_a_site_allows_is_allowed() -> None:
    rules = {"partition_seed": 7, "val_fraction": 0.0, "test_fraction": 0.5, "smallest_count": 1}
    asked = {"partition-seed": 7, "val-fraction": 0.0, "test-fraction": 0.5, "local-steps": 1, "batch-size": 1}
    assert not _found(rules, **asked)
    assert not _found({"most_learning_rate": 3.0}, **{"learning-rate": 1.0, "learning-rate-scale": 3.0})


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_may_be_trained_as_it_recommends(method: str) -> None:
    assert not _found({}, method=method)


def test_an_unknown_method_is_not_this_rules_business() -> None:
    assert not _found({}, method="lorra")
