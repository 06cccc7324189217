"""Whole runs with privacy, of the real server's loop against the real workers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from clients.simulated_site import SimulatedFederation
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.privacy.accountant import Spending, epsilon
from fedmedpeft.privacy.ledger import Ledger
from simulations.preflight import check_components, plan_federation
from tests.simulations.conftest import SITES, run_in_process, tiny_config


def _rows(directory: Path, name: str) -> list[dict[str, str]]:
    with (directory / name).open(newline="") as file:
        return list(csv.DictReader(file))


def _sites(config: RunConfig) -> tuple[str, ...]:
    return SimulatedFederation(config, SITES).partition.sites


def test_what_every_site_spent_is_what_its_ledger_says(tiny_backbone: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_backbone, tmp_path, privacy="required(epsilon=4)", method="lora(rank=2)")
    directory = run_in_process(config)
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["method"] == "lora(factors='ffa', rank=2)"
    assert set(summary["results"]) == {"federated"}
    for site, said in summary["privacy"].items():
        ledger = Ledger.read(directory / "sites" / f"{site}.ledger.jsonl")
        assert said["unit"] == ledger.unit == "record"
        assert said["epsilon"] == pytest.approx(ledger.epsilon())
        assert 3.9 < ledger.epsilon() <= 4
    assert len(summary["privacy"]) == SITES
    card = (directory / "MODEL_CARD.md").read_text()
    assert card.count("per record at delta") == SITES
    assert "No differential privacy" not in card
    rows = _rows(directory, "sites.csv")
    assert {row["train_loss"] for row in rows} == {""}
    assert all(row["epsilon"] for row in rows if row["round"] != "0")
    assert {row["outcome"].split(":")[0] for row in _rows(directory, "references.csv")} == {"not asked for"}


def test_one_site_alone_may_want_privacy(tiny_backbone: Path, tmp_path: Path) -> None:
    site = _sites(tiny_config(tiny_backbone, tmp_path))[1]
    file = tmp_path / "privacy.toml"
    file.write_text(f'out-of-domain = ["{site}"]\n[sites]\n{site} = "auto(epsilon=4)"\n')
    config = tiny_config(tiny_backbone, tmp_path, privacy=f"file(path='{file}')")
    directory = run_in_process(config)
    summary = json.loads((directory / "summary.json").read_text())
    assert list(summary["privacy"]) == [site]
    others = ", ".join(sorted(set(summary["sites"]) - {site}))
    assert f"Without differential privacy, so that their updates are not private: {others}." in summary["remarks"]
    assert set(summary["results"]["local-only"]["sites"]) == set(summary["sites"]) - {site}
    assert site not in summary["results"]["personalised"]["sites"]
    private = [bool(row["private"]) for row in _rows(directory, "sites.csv") if row["round"] == "1"]
    assert private == [False, True, False]


def test_a_site_without_budget_sits_out_and_the_run_goes_on(tiny_backbone: Path, tmp_path: Path) -> None:
    site = _sites(tiny_config(tiny_backbone, tmp_path))[0]
    file = tmp_path / "privacy.toml"
    # One round costs less than 2.5 and two cost more.
    file.write_text(f'[sites]\n{site} = "required(epsilon=2.5, noise_multiplier=0.8)"\n')
    directory = run_in_process(tiny_config(tiny_backbone, tmp_path, privacy=f"file(path='{file}')", references="none"))
    by_round = {row["round"]: row["outcome"] for row in _rows(directory, "sites.csv") if row["site"] == site}
    assert by_round["1"] == "accepted"
    assert "budget does not allow another round" in by_round["2"]
    assert by_round["3"] == "evaluated"
    assert [row["sites_used"] for row in _rows(directory, "rounds.csv")] == ["3", "3", "2"]
    assert Ledger.read(directory / "sites" / f"{site}.ledger.jsonl").epsilon() <= 2.5


@pytest.mark.parametrize(
    "kind",
    [
        "fixed(clip=0.1, noise=2.0)",
        "fixed(clip=0.1, noise=2.0, clip_at=site)",
        "fixed(clip=0.1, noise=2.0, clip_at=site, noise_at=site)",
        "adaptive(noise=2.0)",
        "adaptive(noise=2.0, clip_at=site)",
    ],
)
def test_privacy_of_whole_sites(tiny_backbone: Path, tmp_path: Path, kind: str) -> None:
    changes = {"client-privacy": kind, "weighting": "uniform", "inbound-factor": 0.0, "references": "none"}
    directory = run_in_process(tiny_config(tiny_backbone, tmp_path, **changes))
    said = json.loads((directory / "summary.json").read_text())["client_privacy"]
    expected = epsilon([Spending(2.0, 1.0, 2)], said["delta"])
    assert said["epsilon"] == pytest.approx(expected)
    assert {site["rounds"] for site in said["sites"].values()} == {2}
    rounds = _rows(directory, "rounds.csv")
    assert all(float(row["noise_of_mean"]) > 0 for row in rounds if row["outcome"] == "aggregated")
    assert len({row["clip"] for row in rounds if row["clip"]}) == (2 if "adaptive" in kind else 1)
    losses = {row["train_loss"] for row in _rows(directory, "sites.csv") if row["outcome"] == "accepted"}
    assert (losses == {""}) == ("noise_at=site" in kind)
    assert "Differential privacy of whole sites" in (directory / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"privacy": "required", "method": "batchnorm"}, "batchnorm"),
        ({"privacy": "required", "mode": "local-only"}, "mode='local-only'"),
        ({"privacy": "required(epsilon=0)"}, "epsilon"),
        ({"client-privacy": "fixed", "inbound-factor": 0.0}, "weighting='samples'"),
        ({"client-privacy": "fixed", "weighting": "uniform"}, "inbound-factor"),
        ({"client-privacy": "fixd"}, "Did you mean 'fixed'"),
        ({"privacy": "auto", "out-of-domain": "scaner-01"}, "'scaner-01', which is no site. Did you mean 'scanner-01'"),
        ({"strategy": "fedavgm"}, "Set inbound-factor=10"),
    ],
)
def test_what_cannot_be_is_known_before_anything_starts(
    tiny_backbone: Path, tiny_resnet: Path, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    backbone = tiny_resnet if changes.get("method") == "batchnorm" else tiny_backbone
    with pytest.raises(ConfigError, match=says):
        check_components(plan_federation(tiny_config(backbone, tmp_path, **changes)))
