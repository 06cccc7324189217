from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmedpeft.privacy.randomness import SeededRandomness
from fedmedpeft.privacy.units import Unit, units_of
from fedmedpeft.training.private import DpSgd
from simulations.audit import gradient_canaries
from simulations.audit.audited import AuditedPrivacy, AuditRun
from simulations.audit.canary_findings import audit_canaries, broken
from simulations.audit.gradient_canaries import _with_strangers, attack_updates
from tests.simulations.audit.runs import audit_run, random_split, seeded

COUNT = 400


@pytest.fixture(autouse=True)
def _fair_but_fixed_coins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gradient_canaries.CANARIES, "quick", COUNT)
    monkeypatch.setattr(gradient_canaries, "coins", lambda count: np.random.default_rng(0).random(count) < 0.5)


class _Silent(SeededRandomness):
    """Forgets the noise."""

    def normal(self, shape: object, *, std: float, device: object = "cpu") -> torch.Tensor:
        return super().normal(shape, std=0.0, device=device)  # type: ignore[arg-type]


def _unclipped(privacy: AuditedPrivacy) -> DpSgd:
    """The same noise, and no clipping to speak of."""
    return replace(seeded(privacy), clip=1e6, noise_multiplier=privacy.noise_multiplier / 1e6)


def _noiseless(privacy: AuditedPrivacy) -> DpSgd:
    return replace(seeded(privacy), randomness=_Silent(1))


def _half_the_noise(privacy: AuditedPrivacy) -> DpSgd:
    return replace(seeded(privacy), noise_multiplier=privacy.noise_multiplier / 2)


def _twice_the_rate(privacy: AuditedPrivacy) -> DpSgd:
    return replace(seeded(privacy), sample_rate=min(1.0, 2 * privacy.sample_rate))


@pytest.mark.parametrize("budget", [1.0, 8.0])
def test_a_sound_training_is_found_sound(tiny_backbone: Path, budget: float) -> None:
    """Below the accountant's epsilon, yet above nothing; noise and a canary's part as promised."""
    observed = attack_updates(audit_run(tiny_backbone, budget=budget))
    found = observed.shown
    assert found.bound.epsilon <= found.upper
    assert found.upper == pytest.approx(budget, rel=0.01)
    assert observed.noise == pytest.approx(1.0, abs=0.15)
    assert observed.part == pytest.approx(1.0, abs=0.25)
    assert observed.sound
    assert (found.bound.epsilon > 0.5) == (budget == 8.0)


def test_hardly_any_noise_is_hardly_any_privacy(tiny_backbone: Path) -> None:
    """All canaries are told apart, and the accountant says so too: the promise, next to nothing, is kept."""
    observed = attack_updates(audit_run(tiny_backbone, budget=500.0))
    assert observed.shown.bound.epsilon > 0.8 * observed.shown.bound.ceiling
    assert observed.shown.bound.epsilon < observed.shown.upper
    assert observed.sound


@pytest.mark.parametrize("mechanism", [_noiseless, _unclipped])
def test_a_broken_mechanism_is_refuted(tiny_backbone: Path, mechanism: Callable[[AuditedPrivacy], DpSgd]) -> None:
    """By the bound itself, at epsilon 1."""
    observed = attack_updates(replace(audit_run(tiny_backbone, budget=1.0), mechanism=mechanism))
    assert broken(observed.shown)
    assert not observed.sound


@pytest.mark.parametrize("mechanism", [_noiseless, _unclipped, _half_the_noise, _twice_the_rate])
def test_what_no_bound_reaches_is_measured(tiny_backbone: Path, mechanism: Callable[[AuditedPrivacy], DpSgd]) -> None:
    """At epsilon 8 the bound cannot pass the promise with so few canaries; noise and clipping are seen all the same."""
    observed = attack_updates(replace(audit_run(tiny_backbone, budget=8.0), mechanism=mechanism))
    assert not observed.sound


def test_the_page_says_broken(tiny_backbone: Path) -> None:
    findings = audit_canaries(replace(audit_run(tiny_backbone, budget=1.0, units=24), mechanism=_noiseless))
    assert [finding.broken for finding in findings] == [True, True]
    assert "BROKEN" in findings[0].summary
    assert any(row[-1] == "BROKEN" for row in findings[0].rows)


def test_the_learner_is_left_as_it_was(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone, method="lora", budget=8.0)
    learner, task = run.model.learner, run.model.learner.task
    names, modules = list(learner.trainables), [name for name, _ in learner.named_modules()]
    for planted in (run, _without_head(run)):
        attack_updates(planted)
        assert learner.task is task
        assert list(learner.trainables) == names
        assert [name for name, _ in learner.named_modules()] == modules


def _without_head(run: AuditRun) -> AuditRun:
    """Trains the method beside the canaries, as for a task that has no head."""
    return replace(run, config=run.config.model_copy(update={"backbone": "there-is-none", "rounds": 1}))


@pytest.mark.parametrize("unit", ["record", "image", "patient"])
def test_each_stranger_is_a_unit(unit: Unit) -> None:
    split = random_split(6)
    split.image_of, split.patient_of = torch.tensor([0, 0, 1, 2, 3, 3]), torch.tensor([5, 5, 5, 2, 2, 9])
    before = units_of(split, unit)
    grown = units_of(_with_strangers(split, 4, unit), unit)
    assert grown.count == before.count + 4
    assert torch.equal(grown.of_row[:6], before.of_row)
    assert len(set(grown.of_row[6:].tolist())) == 4
