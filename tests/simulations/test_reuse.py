"""What a run leaves, used again: as the start of another run, and merged into a backbone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageClassification
from typer.testing import CliRunner

import fedmedpeft
from clients.simulated_site import SimulatedFederation
from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.backbones import load_backbone
from fedmedpeft.cli import app
from fedmedpeft.components import ConfigError
from simulations.preflight import check_components, plan_federation
from simulations.settings import read_settings
from tests.simulations.conftest import SITES, run_in_process, tiny_config


@pytest.fixture(scope="module")
def lora_run(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("lora")
    return run_in_process(tiny_config(tiny_backbone, runs, method="lora+layernorm", references="none"))


def test_a_run_that_starts_from_another(lora_run: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    before = read_adapter(lora_run / "adapter").state
    config = tiny_config(
        tiny_backbone, tmp_path, method="lora+layernorm", references="none", **{"start-from": str(lora_run)}
    )
    check_components(plan_federation(config))
    federation = SimulatedFederation(config, SITES)
    assert federation.initial.only(before.manifest).hash() == before.hash()
    after = read_adapter(run_in_process(config) / "adapter").state
    assert after.manifest == before.manifest
    assert after.hash() != before.hash()


def test_an_adapter_that_is_not_there_is_found_before_anything_starts(tiny_backbone: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_backbone, tmp_path, **{"start-from": str(tmp_path / "nothing")})
    with pytest.raises(ConfigError, match="no adapter there"):
        check_components(plan_federation(config))


def test_its_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings(assignments=["start-from=runs/one"]).start_from == str(tmp_path / "runs" / "one")
    assert read_settings().start_from == ""


@torch.no_grad()
def test_merge(lora_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    result = CliRunner().invoke(app, ["merge", str(lora_run), "--out", str(out)])
    assert result.exit_code == 0, result.output
    learner = fedmedpeft.load(lora_run / "adapter", device="cpu")
    mark = load_backbone(str(out)).fingerprint
    assert mark in result.output
    assert mark != learner.backbone.fingerprint
    assert "Stayed at the sites, and is not in it: layernorm" in result.output
    page = (out / "README.md").read_text()
    assert "generated images" in page
    assert "without layernorm" in page
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    pixels = (images.float() / 255 - learner.mean) / learner.std
    model = AutoModelForImageClassification.from_pretrained(out).eval()
    torch.testing.assert_close(model(pixel_values=pixels).logits, learner(images), atol=1e-5, rtol=1e-5)
    assert CliRunner().invoke(app, ["merge", str(lora_run), "--out", str(out)]).exit_code == 2
