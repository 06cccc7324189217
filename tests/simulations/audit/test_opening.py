from __future__ import annotations

from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.privacy.accountant import Spending, epsilon
from simulations.audit.audited import AuditRun, as_configured
from simulations.audit.opening import open_audit
from simulations.preflight import plan_federation
from tests.simulations.conftest import tiny_config


def _open(backbone: Path, site: str | None = None, budget: float | None = None, **changes: object) -> AuditRun:
    federation = plan_federation(tiny_config(backbone, backbone.parent, **changes))
    return open_audit(federation, site, budget, "quick", lambda line: None)


def test_as_the_site_would_plan_it(tiny_backbone: Path) -> None:
    """One budget for all steps of the run, from an empty ledger."""
    run = _open(tiny_backbone, privacy="required(epsilon=3.0, clip=0.5, delta=1e-4)")
    privacy, count = run.privacy, run.units.count
    assert privacy is not None
    assert (privacy.sample_rate, privacy.steps, privacy.clip, privacy.delta) == (4 / count, 4, 0.5, 1e-4)
    assert 2.9 < privacy.epsilon <= 3.0
    assert privacy.epsilon == epsilon([Spending(privacy.noise_multiplier, 4 / count, 4)], 1e-4)
    step = as_configured(privacy)
    assert (step.noise_multiplier, step.sample_rate, step.clip) == (privacy.noise_multiplier, 4 / count, 0.5)
    assert run.notes == ()


def test_without_privacy_it_is_compared_with_the_default(tiny_backbone: Path) -> None:
    run = _open(tiny_backbone)
    assert run.privacy is not None
    assert 7.9 < run.privacy.epsilon <= 8.0
    assert "without privacy" in run.notes[0]
    assert run.synthetic


def test_another_budget_rules_out_a_configured_noise(tiny_backbone: Path) -> None:
    run = _open(tiny_backbone, budget=1.0, privacy="required(noise_multiplier=5.0)")
    assert run.privacy is not None
    assert 0.95 < run.privacy.epsilon <= 1.0
    none = _open(tiny_backbone, budget=0.0)
    assert none.privacy is None
    assert "left out" in none.notes[0]


def test_a_site_by_its_name(tiny_backbone: Path) -> None:
    first = _open(tiny_backbone)
    other = _open(tiny_backbone, site="scanner-01")
    assert (first.site, other.site) == ("scanner-00", "scanner-01")
    assert first.data.train_hash != other.data.train_hash
    with pytest.raises(ConfigError, match="--site 'scanner-10': there is none.*scanner-01"):
        _open(tiny_backbone, site="scanner-10")


def test_what_cannot_be_private(tiny_resnet: Path) -> None:
    """Compared with nothing where the run wants none, refused where it does."""
    changes = {"method": "batchnorm"}
    run = _open(tiny_resnet, **changes)
    assert run.privacy is None
    assert "batchnorm" in run.notes[0]
    for privacy in ("required()", "auto()"):
        with pytest.raises(ConfigError, match="batchnorm"):
            _open(tiny_resnet, **changes, privacy=privacy)


def test_a_site_without_privacy_in_a_file_that_has_some(tiny_resnet: Path, tmp_path: Path) -> None:
    file = tmp_path / "privacy.toml"
    file.write_text('default = "off"\n[sites]\nscanner-01 = "required(epsilon=3)"\n')
    changes = {"method": "batchnorm", "privacy": f"file(path='{file}')"}
    assert _open(tiny_resnet, "scanner-00", **changes).privacy is None
    with pytest.raises(ConfigError, match="batchnorm"):
        _open(tiny_resnet, "scanner-01", **changes)


def test_a_fresh_learner_is_where_the_run_starts(tiny_backbone: Path) -> None:
    run = _open(tiny_backbone)
    for trainable in run.model.learner.trainables.values():
        trainable.parameter.data += 1
    learner = run.fresh()
    assert learner.export(learner.manifest()).hash() == run.model.initial.hash()
