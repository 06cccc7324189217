"""Hospitals that learn to find an image's caption and a caption's image. Images and captions are synthetic."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.cli import app
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.tasks.ranks import METRICS
from server.errors import FederationError
from tests.simulations.conftest import SITES, run_in_process, tiny_config

_LEVELS = {"lung": 30, "heart": 100, "brain": 170, "liver": 240}
"""Each half of an image has the grey level of the organ that its caption names there."""


def _write_captions(directory: Path, images: int) -> Path:
    """A manifest of images of 32 px from three hospitals, every fourth with a second caption."""
    generator = np.random.default_rng(0)
    lines = ["file,text,site"]
    for index in range(images):
        left, right = generator.choice(list(_LEVELS), 2)
        pixels = np.repeat([_LEVELS[left], _LEVELS[right]], 16)[None, :, None] + generator.normal(0, 4, (32, 32, 3))
        file, site = f"{index}.png", f"hospital-{index % SITES}"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(directory / file)
        lines.append(f"{file},left {left} right {right} image {index},{site}")
        if index % 4 == 0:
            lines.append(f"{file},there is {right} right of {left} in image {index},{site}")
    path = directory / "captions.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_captions(tmp_path_factory.mktemp("captions"), 90)


def _config(meter: str, captions: Path, runs: Path, **changes: object) -> RunConfig:
    values: dict[str, object] = {
        "data": f"manifest(path='{captions}')",
        "task": "retrieval(negatives=3)",
        "partition": "natural",
        "method": "layernorm+lora(where=fusion)",
        "personal": "none",
        "learning-rate": 5e-3,
        "batch-size": 8,
        "personalise-steps": 0,
    }
    return tiny_config(Path(meter), runs, **values | changes)


def _tested(run: Path) -> dict[str, dict[str, str]]:
    with (run / "sites.csv").open() as file:
        return {row["site"]: row for row in csv.DictReader(file) if row["outcome"] == "evaluated"}


def test_a_federation_learns_to_find(tiny_meter: str, captions: Path, tmp_path: Path) -> None:
    changes = {"rounds": 4, "local-steps": 35, "references": "none"}
    run = run_in_process(_config(tiny_meter, captions, tmp_path, **changes))
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["metric"], summary["unit"]) == ("mean_recall", "texts")
    found = summary["results"]["federated"]["union_metrics"]
    assert found["mean_recall"] > found["chance"] + 0.08


@pytest.fixture(scope="module")
def finished(tiny_meter: str, captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with each hospital alone beside it."""
    return run_in_process(_config(tiny_meter, captions, tmp_path_factory.mktemp("runs")))


def test_beside_it_each_hospital_alone(finished: Path) -> None:
    results = json.loads((finished / "summary.json").read_text())["results"]
    federated, alone = (results[kind]["union_metrics"] for kind in ("federated", "local-only"))
    assert federated["chance"] == alone["chance"]
    with (finished / "references.csv").open() as file:
        assert {row["tested_on"] for row in csv.DictReader(file)} == {"test"}
    assert json.loads((finished / "summary.json").read_text())["local_only_elsewhere"] is None
    assert 0 <= alone["mean_recall"] <= 1
    assert federated["loss"] != alone["loss"]


def test_evaluate_gives_the_run_s_own_scores(finished: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(finished), "--json"])
    assert result.exit_code == 0, result.output
    found, tested = json.loads(result.stdout), _tested(finished)
    assert len(tested) == SITES
    for site, row in tested.items():
        assert found[site]["texts"] == found[site]["samples"]
        for metric in METRICS:
            assert found[site]["metrics"][metric] == pytest.approx(float(row[f"received_test_{metric}"]), abs=1e-6)
        assert found[site]["loss"] == pytest.approx(float(row["received_test_loss"]), rel=1e-4)
    for name in ("texts", "images", "text_hits_at_5", "image_hits_at_10"):
        assert found["union"][name] == sum(found[site][name] for site in tested)


def test_the_table_of_evaluate(finished: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(finished), "--split", "val"])
    assert result.exit_code == 0, result.output
    assert "chance" in result.stdout


@pytest.mark.parametrize("method", ["kpl", "sadapter"])
def test_what_travels_is_the_method_and_one_row_of_head(
    tiny_meter: str, captions: Path, tmp_path: Path, method: str
) -> None:
    changes = {"method": method, "learning-rate": 0.0, "references": "none"}
    run = run_in_process(_config(tiny_meter, captions, tmp_path, **changes))
    state = read_adapter(run / "adapter").state.tensors()
    assert state["head.weight"].shape == (1, 64)
    assert len(_tested(run)) == SITES


def test_data_and_backbones_that_do_not_go_with_it(
    tiny_meter: str, tiny_backbone: Path, captions: Path, tmp_path: Path
) -> None:
    for meter, changes, says in (
        (tiny_meter, {"data": "phantoms(images=120, scanners=3, size=32)"}, "no questions or captions"),
        (str(tiny_backbone), {}, "reads images only"),
    ):
        with pytest.raises((ConfigError, FederationError), match=says):
            run_in_process(_config(meter, captions, tmp_path, **changes))
