from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmedpeft.training import LearnerPredictor
from simulations.audit.audited import AuditRun, as_configured
from simulations.audit.contribution import contribute, losses, plain_trainer
from simulations.audit.membership import audit_membership, draw_members
from simulations.audit.roc import most_hits
from simulations.audit.rows import take
from tests.simulations.audit.runs import audit_run

BY_HEART = {"units": 32, "method": "full", "rounds": 5, "learning-rate": 1e-2, "logit-adjustment": 0.0}


def _by_attack(run: AuditRun) -> dict[tuple[str, str], float]:
    (finding,) = audit_membership(run)
    return {(str(row[0]), str(row[1])): float(row[2]) for row in finding.rows}


def test_learning_by_heart_is_found(tiny_backbone: Path) -> None:
    run = replace(audit_run(tiny_backbone, **BY_HEART), shadows=6)  # type: ignore[arg-type]
    (finding,) = audit_membership(run)
    found = {str(row[1]): float(row[2]) for row in finding.rows}
    assert list(found) == ["LiRA, online", "LiRA, offline", "loss threshold"]
    assert found["LiRA, online"] > 0.8
    assert found["loss threshold"] > 0.8
    assert finding.figures[0].png.startswith(b"\x89PNG")
    assert "of 100 (not private)" in finding.summary


def test_privacy_hides_it(tiny_backbone: Path) -> None:
    """Noise of its own for each model: with the same for all, shadows would know the target's."""
    run = audit_run(tiny_backbone, budget=0.5, **BY_HEART | {"rounds": 3})  # type: ignore[arg-type]
    (finding,) = audit_membership(replace(run, shadows=4, mechanism=as_configured))
    found = {(str(row[0]), str(row[1])): float(row[2]) for row in finding.rows}
    assert [row[-1] for row in finding.rows] == [1.0] * 3 + [pytest.approx(most_hits(0.01, 0.5, 1e-5), rel=1e-2)] * 3
    assert found["not private", "loss threshold"] > 0.75
    assert all(value < 0.7 for (training, _), value in found.items() if training != "not private")


def test_without_steps_there_is_nothing_to_find(tiny_backbone: Path) -> None:
    """So little is learnt that members and others look alike: the attacks do not see what is not there."""
    run = replace(audit_run(tiny_backbone, units=64, **{"learning-rate-scale": 1e-9}), shadows=8)  # type: ignore[arg-type]
    for name, value in _by_attack(run).items():
        assert value == pytest.approx(0.5, abs=0.12), name


def test_the_same_seed_gives_the_same_figures(tiny_backbone: Path) -> None:
    run = replace(audit_run(tiny_backbone, units=24), shadows=4)
    assert _by_attack(run) == _by_attack(run)
    assert _by_attack(run) != _by_attack(replace(run, seed=5))


def test_too_small_a_site_is_said_to_be(tiny_backbone: Path) -> None:
    (finding,) = audit_membership(audit_run(tiny_backbone, units=6))
    assert "Not attacked" in finding.summary
    assert not finding.rows


def test_halves_differ_between_models() -> None:
    members = draw_members(16, 50, 0)
    assert (members.sum(1) == 25).all()
    assert len({row.tobytes() for row in members}) == 16
    np.testing.assert_array_equal(members, draw_members(16, 50, 0))


def test_what_stays_at_the_site_is_not_given_away(tiny_backbone: Path) -> None:
    """The released state has no LayerNorm, and the attacker's losses are those of a model with the initial one."""
    run = audit_run(tiny_backbone, method="lora+layernorm")
    split = run.data.train
    state = contribute(run, plain_trainer(run), split, seed=1)
    names = [spec.name for spec in state.manifest.tensors]
    assert names
    assert not [name for name in names if "norm" in name]
    known = losses(run, state, split)
    learner = run.fresh()
    learner.load(state)
    assert known.mean() == pytest.approx(LearnerPredictor(learner).evaluate(split).loss, rel=1e-5)


def test_losses_are_of_single_rows(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone)
    split = run.data.train
    chosen = torch.tensor([3, 0, 3])
    np.testing.assert_allclose(
        losses(run, None, take(split, chosen)), losses(run, None, split)[chosen.numpy()], rtol=1e-5
    )
