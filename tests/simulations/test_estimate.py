from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedpeft.components import ConfigError
from simulations.estimate import estimate
from simulations.preflight import plan_federation
from tests.simulations.conftest import run_in_process, tiny_config

_STRINGS = 100
"""Bytes by which a phase may be off: the digits of counts that only a run knows."""


@pytest.mark.parametrize(
    "changes",
    [
        {"references": "all"},
        {"references": "none", "personalise-steps": 0},
        {"references": "none", "personal": "head", "strategy": "fedprox(mu=0.1)"},
        {"references": "none", "sampling-fraction": 0.5},
        {"mode": "local-only"},
        {"privacy": "required(epsilon=8)", "references": "all"},
        {"client-privacy": "adaptive(clip_at=site)", "weighting": "uniform", "inbound-factor": 0.0},
        {"references": "none", "method": "sba", "rounds": 4},
        {"references": "none", "method": "sba", "rounds": 6, "sampling-fraction": 0.3, "min-sites": 1},
        {"references": "none", "method": "sba(per_site=true, persist=false)", "rounds": 4, "sampling-fraction": 0.5},
        {"references": "local-only", "method": "lora+sba(order=cyclic, blocks=2)", "personal": "head"},
    ],
)
def test_it_is_what_a_run_measures(tiny_backbone: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    config = tiny_config(tiny_backbone, tmp_path, **changes)
    expected = estimate(plan_federation(config))
    measured = json.loads((run_in_process(config) / "summary.json").read_text())["traffic"]
    for phase, transfer in expected.phases.items():
        seen = measured["phases"].get(phase, {"down_bytes": 0, "up_bytes": 0})
        assert transfer.down == pytest.approx(seen["down_bytes"], abs=_STRINGS), phase
        assert transfer.up == pytest.approx(seen["up_bytes"], abs=_STRINGS), phase
    assert expected.total.states == measured["states_exchanged"]
    assert expected.full_bytes == (measured["full_fine_tuning_bytes"] or 0)


@pytest.mark.parametrize(
    "changes", [{"method": "sba", "strategy": "fedadam"}, {"strategy": "krum(malicious=3)"}], ids=["rotation", "sites"]
)
def test_a_run_that_could_not_start_has_no_estimate(
    tiny_backbone: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match="strategy="):
        estimate(plan_federation(tiny_config(tiny_backbone, tmp_path, **changes)))


def test_values_are_most_of_what_travels(tiny_backbone: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_backbone, tmp_path, method="full", rounds=10, references="none")
    found = estimate(plan_federation(config))
    # join sends one state up; each round three down and three up; the last visit three down.
    assert found.total.states == 1 + 10 * 6 + 3
    assert found.total.down + found.total.up == pytest.approx(found.total.states * found.payload, rel=0.1)
    assert found.times_less == pytest.approx(1, rel=0.1)
