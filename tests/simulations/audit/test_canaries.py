from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from simulations.audit import canaries
from simulations.audit.audited import AuditRun
from simulations.audit.canaries import LARGEST_DELTA, attack_released, audited_delta, coins, plant
from tests.simulations.audit.runs import audit_run


def _by_heart(backbone: Path, **settings: object) -> AuditRun:
    """A training that memorises."""
    values = {"method": "full", "rounds": 5, "learning-rate": 1e-2, "logit-adjustment": 0.0, **settings}
    return audit_run(backbone, **values)  # type: ignore[arg-type]


def test_canaries_are_mislabelled_units(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone)
    planted = plant(run)
    assert planted is not None
    labels = dict(zip(run.data.train.rows.tolist(), run.data.train.labels.tolist(), strict=True))
    assert len(planted.probes) == len(planted.included) == 24
    wrong = zip(planted.probes.rows.tolist(), planted.probes.labels.tolist(), strict=True)
    assert all(labels[row] != label for row, label in wrong)
    inside = set(planted.split.rows.tolist())
    assert [row in inside for row in planted.probes.rows.tolist()] == planted.included.tolist()
    others = set(labels) - set(planted.probes.rows.tolist())
    assert inside - set(planted.probes.rows.tolist()) == others
    told = dict(zip(planted.split.rows.tolist(), planted.split.labels.tolist(), strict=True))
    assert all(told[row] == labels[row] for row in others)


def test_of_a_patient_one_row_alone_is_a_canary(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone, budget=8.0)
    patients = torch.arange(48) // 2
    run.data.train.patient_of = patients
    assert run.privacy is not None
    planted = plant(replace(run, privacy=replace(run.privacy, unit="patient")))
    assert planted is not None
    assert len(planted.included) == 12
    assert not {int(patients[row]) for row in planted.split.rows} & {
        int(patients[row]) for row in planted.probes.rows[~planted.included]
    }
    assert len(planted.split) == 24 + planted.included.sum()


def test_one_label_has_no_wrong_one(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone)
    run.data.train.labels[:] = 1
    assert plant(run) is None


def test_coins_are_fair_and_nobodys() -> None:
    """100,000 of them: six standard deviations."""
    assert coins(100_000).mean() == pytest.approx(0.5, abs=0.0095)
    assert not np.array_equal(coins(256), coins(256))


def test_learning_by_heart_is_found(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canaries, "coins", lambda count: np.arange(count) % 2 == 0)
    run = _by_heart(tiny_backbone)
    planted = plant(run)
    assert planted is not None
    shown = attack_released(run, planted, private=False)
    assert shown.bound.epsilon > 0.5
    assert math.isinf(shown.upper)


def test_with_privacy_nothing_is_known_by_heart(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canaries, "coins", lambda count: np.arange(count) % 2 == 0)
    run = _by_heart(tiny_backbone, budget=1.0)
    planted = plant(run)
    assert planted is not None
    shown = attack_released(run, planted, private=True)
    assert shown.bound.epsilon <= shown.upper == pytest.approx(1.0, rel=0.01)


def test_delta_is_small_enough_to_show_something(tiny_backbone: Path) -> None:
    run = audit_run(tiny_backbone, budget=8.0)
    assert run.privacy is not None
    assert audited_delta(None) == LARGEST_DELTA == audited_delta(replace(run.privacy, delta=0.01))
    assert audited_delta(replace(run.privacy, delta=1e-7)) == 1e-7
