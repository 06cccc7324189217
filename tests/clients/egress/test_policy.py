"""Each rule of a policy refuses what breaks it, by name, and nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from clients.egress.policy import Policy, run_hash
from clients.policy_section import PolicySection
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import Refusal, SiteError

_BACKBONES = {"embedded": "embedded", "vit-b": "/models/vit-b"}


def _run(**values: Any) -> RunConfig:
    return RunConfig.from_mapping({key.replace("_", "-"): value for key, value in values.items()})


def _policy(**values: Any) -> Policy:
    return Policy(PolicySection(**values), _BACKBONES)


def test_the_defaults_allow_a_run_of_defaults() -> None:
    _policy().check_run(_run())


_REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "full": ({}, {"method": "full"}, "method 'full' is not allowed here .*all but full"),
    "a part of a composition": ({"methods": ("lora",)}, {"method": "lora+vpt-deep"}, "'vpt-deep' .*allowed: lora"),
    "a task": ({}, {"task": "vqa"}, "task 'vqa' .*allowed: classification"),
    "an unknown backbone": ({}, {"backbone": "/srv/other"}, "backbone '/srv/other' is none .*embedded, vit-b"),
    "a fingerprint": (
        {"backbones": ("a" * 64,)},
        {"backbone_fingerprint": "b" * 64},
        "backbone-fingerprint 'bbbbbbbbbbbb...'",
    ),
    "rounds": ({"most_rounds": 5}, {"rounds": 6}, "rounds=6 .*most-rounds: 5"),
    "steps": (
        {
            "most_local_steps": 5,
        },
        {"local_steps": 6, "personalise_steps": 0},
        "local-steps=6 .*most-local-steps: 5",
    ),
    "steps afterwards": ({}, {"personalise_steps": 1001}, "personalise-steps=1001"),
    "any inbound distance": ({}, {"inbound_factor": 0.0}, "inbound-factor=0 .*most-inbound-factor: 5"),
    "a large inbound distance": ({}, {"inbound_factor": 5.1}, "inbound-factor=5.1"),
    "pooled": ({"references": True}, {"mode": "pooled"}, "mode 'pooled'"),
    "local-only": ({}, {"mode": "local-only"}, "mode 'local-only'"),
    "start": ({}, {"start_from": "adapters/one"}, "'start-from' names a file"),
    "answers": ({"tasks": ("vqa",)}, {"task": "vqa(answers='list')"}, "'task: answers' names a file"),
    "client privacy": ({}, {"client_privacy": "fixd"}, "client-privacy 'fixd'"),
}


@pytest.mark.parametrize(("rules", "asked", "words"), _REFUSED.values(), ids=_REFUSED)
def test_a_broken_rule_is_named(rules: dict[str, Any], asked: dict[str, Any], words: str) -> None:
    with pytest.raises(SiteError, match=words) as caught:
        _policy(**rules).check_run(_run(**asked))
    assert caught.value.code is Refusal.POLICY
    assert len(_policy(**rules).findings(_run(**asked))) == 1


_ALLOWED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "full, by name": ({"methods": ("full",)}, {"method": "full"}),
    "the head always": ({"methods": ("lora",)}, {"method": "head+lora"}),
    "a family": ({"methods": ("peft:",)}, {"method": "peft:dora"}),
    "a family, with a star": ({"methods": ("peft:*",)}, {"method": "peft:dora(rank=4)"}),
    "at the limits": (
        {"most_rounds": 6, "most_local_steps": 20},
        {"rounds": 6, "local_steps": 20, "inbound_factor": 5.0},
    ),
    "a larger norm, of which the site uses its own": ({"most_norm": 10.0}, {"max_norm": 1e6}),
    "references beside, which are refused by themselves": ({}, {"references": "all"}),
    "alone": ({"references": True}, {"mode": "local-only"}),
    "another backbone of the site's": ({}, {"backbone": "vit-b"}),
    "what the site puts its own for": ({}, {"data": "folder(path='/srv')", "privacy": "file(path='/srv/p.toml')"}),
}


@pytest.mark.parametrize(("rules", "asked"), _ALLOWED.values(), ids=_ALLOWED)
def test_what_keeps_to_the_rules_is_allowed(rules: dict[str, Any], asked: dict[str, Any]) -> None:
    _policy(**rules).check_run(_run(**asked))


def test_a_family_is_not_all_methods() -> None:
    with pytest.raises(SiteError, match="'lora'"):
        _policy(methods=("peft:",)).check_run(_run(method="lora"))


def test_only_approved_runs_are_trained() -> None:
    run = _run(method="full", task="vqa")
    policy = _policy(approved_runs=(run_hash(run).upper(),))
    policy.check_run(run)
    with pytest.raises(SiteError, match="none of those that this site has approved"):
        policy.check_run(_run())


def test_an_approved_run_keeps_to_the_other_rules() -> None:
    run = _run(rounds=500, backbone="elsewhere", inbound_factor=0.0)
    findings = _policy(approved_runs=(run_hash(run),)).findings(run)
    assert [finding.split("=")[0].split(" ")[0] for finding in findings] == ["rounds", "inbound-factor", "backbone"]


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SiteError) as caught:
        _policy().check_run(_run(method="full", task="vqa", rounds=500))
    assert all(word in caught.value.reason for word in ("full", "vqa", "rounds=500"))


def test_what_the_server_wrote_is_shown_short_and_printable() -> None:
    with pytest.raises(SiteError) as caught:
        _policy().check_run(_run(backbone="x\n\x1b[31m" + "y" * 500))
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) < 250


def test_references_and_fingerprints_are_checked_when_they_come_up() -> None:
    _policy(references=True).check_reference()
    with pytest.raises(SiteError, match=r"policy\.references"):
        _policy().check_reference()
    _policy().check_fingerprint("a")
    _policy(backbones=("a",)).check_fingerprint("a")
    with pytest.raises(SiteError, match=r"policy\.backbones"):
        _policy(backbones=("a",)).check_fingerprint("b")


def test_outside_working_hours_a_site_trains_later() -> None:
    policy = _policy(hours="20:00-06:00", days=("mon",))
    policy.check_hours(datetime(2026, 11, 23, 22))
    with pytest.raises(SiteError, match="trains only 20:00-06:00 on mon") as caught:
        policy.check_hours(datetime(2026, 11, 23, 12))
    assert caught.value.code is Refusal.LATER
