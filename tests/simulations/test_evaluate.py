from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTModel

from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.components import ConfigError
from fedmedpeft.data import DataError
from simulations.evaluate import SiteEvaluation, evaluate_run
from simulations.preflight import plan_federation
from simulations.saved_run import Kept, SavedRun
from tests.simulations.conftest import SITES, run_in_process, tiny_config


def _evaluate(path: Path, *, kept: Kept = "nothing", backbone: str | None = None) -> dict[str, SiteEvaluation]:
    run = SavedRun.find(path)
    federation = plan_federation(run.config())
    results = evaluate_run(run, federation, split="test", backbone=backbone, device="cpu", kept=kept)
    return {result.site: result for result in results}


def test_it_gives_the_run_s_own_test_scores(tiny_backbone: Path, tmp_path: Path) -> None:
    directory = run_in_process(tiny_config(tiny_backbone, tmp_path, references="none"))
    results = _evaluate(directory)
    with (directory / "sites.csv").open() as file:
        last = {row["site"]: row for row in csv.DictReader(file) if row["outcome"] == "evaluated"}
    assert set(results) == {*last, "union"}
    for site, row in last.items():
        found = results[site].evaluation
        assert found.loss == pytest.approx(float(row["received_test_loss"]), rel=1e-5)
        assert found.metrics["auroc"] == pytest.approx(float(row["received_test_auroc"]), rel=1e-5)
    parts = [results[site].evaluation for site in last]
    assert np.array_equal(results["union"].evaluation.counts, sum(np.array(part.counts) for part in parts))


def test_personal_parts_give_each_site_its_own_model(personal_run: Path) -> None:
    shared, own = _evaluate(personal_run), _evaluate(personal_run, kept="personal")
    with (personal_run / "sites.csv").open() as file:
        last = {row["site"]: row for row in csv.DictReader(file) if row["outcome"] == "evaluated"}
    for site, row in last.items():
        assert own[site].kept
        assert not shared[site].kept
        assert own[site].evaluation.loss == pytest.approx(float(row["received_test_loss"]), rel=1e-5)
        assert own[site].evaluation.loss != shared[site].evaluation.loss


def test_a_site_s_own_model_is_the_one_fine_tuned_after_the_last_round(personal_run: Path) -> None:
    own, personal = _evaluate(personal_run, kept="own"), _evaluate(personal_run, kept="personal")
    kept = load_file(personal_run / "sites" / "scanner-00.safetensors")
    assert any(name.startswith("own/") for name in kept)
    assert own["scanner-00"].kept
    assert own["scanner-00"].evaluation.loss != personal["scanner-00"].evaluation.loss


def test_a_site_without_personal_parts_is_scored_by_the_shared_model(personal_run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(personal_run, tmp_path / "copied")
    (copied / "sites" / "scanner-01.safetensors").unlink()
    shared, own = _evaluate(copied), _evaluate(copied, kept="personal")
    assert [own[f"scanner-0{i}"].kept for i in range(SITES)] == [True, False, True]
    assert own["scanner-01"].evaluation.loss == shared["scanner-01"].evaluation.loss


def test_a_damaged_personal_file_is_named(personal_run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(personal_run, tmp_path / "copied")
    path = copied / "sites" / "scanner-00.safetensors"
    save_file({name: value.flatten() for name, value in load_file(path).items()}, path)
    with pytest.raises(ConfigError, match=r"head\.weight"):
        _evaluate(copied, kept="personal")
    path.write_bytes(b"not safetensors")
    with pytest.raises(ConfigError, match="cannot be read"):
        _evaluate(copied, kept="personal")


def test_another_backbone_is_refused(personal_run: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_backbone, tmp_path / "other")
    model = ViTModel.from_pretrained(other, add_pooling_layer=False)
    with torch.no_grad():
        model.layernorm.bias.add_(1)
    model.save_pretrained(other)
    with pytest.raises(ConfigError, match="fingerprint"):
        _evaluate(personal_run, backbone=str(other))


def test_classes_that_the_adapter_does_not_know(personal_run: Path) -> None:
    run = SavedRun.find(personal_run)
    config = run.config().model_copy(update={"data": "phantoms(images=240, scanners=3, size=32, classes=6)"})
    with pytest.raises(DataError, match="does not know"):
        evaluate_run(run, plan_federation(config), split="test", backbone=None, device="cpu", kept="nothing")


def test_data_with_fewer_classes_is_scored_by_name(personal_run: Path) -> None:
    run = SavedRun.find(personal_run)
    config = run.config().model_copy(update={"data": "phantoms(images=120, scanners=3, size=32, classes=3)"})
    federation = plan_federation(config)
    results = evaluate_run(run, federation, split="test", backbone=None, device="cpu", kept="nothing")
    counts = federation.partition.counts()[:, 2].sum(axis=0)
    images = dict(zip(federation.source.table.classes, counts.tolist(), strict=True))
    known = read_adapter(run.adapter).config.classes
    assert len(images) < len(known)
    confusion = np.array(results[-1].evaluation.counts).reshape(len(known), len(known))
    assert confusion.sum(axis=1).tolist() == [images.get(name, 0) for name in known]


@pytest.mark.parametrize("inside", ["", "adapter"])
def test_a_run_or_its_adapter(personal_run: Path, inside: str) -> None:
    assert SavedRun.find(personal_run / inside) == SavedRun(personal_run, personal_run / "adapter")


def test_neither(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a run"):
        SavedRun.find(tmp_path)


def test_another_partition_than_the_run_s_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    directory = run_in_process(tiny_config(tiny_backbone, tmp_path, references="none"))
    run = SavedRun.find(directory)
    partition = plan_federation(run.config()).partition
    run.check_partition(partition)
    with pytest.raises(ConfigError, match="images that were trained on could count as test images"):
        run.check_partition(plan_federation(run.config().model_copy(update={"partition_seed": 9})).partition)
    assert run.partition_spec() is None
    partition.save(directory / "partition.json")
    saved = run.config().model_copy(update={"partition": run.partition_spec()})
    assert plan_federation(saved).partition.hash() == partition.hash()


def test_statistics_of_each_site_belong_to_its_model(tiny_resnet: Path, tmp_path: Path) -> None:
    method = "batchnorm(statistics='site')"
    directory = run_in_process(tiny_config(tiny_resnet, tmp_path, method=method, references="none"))
    shared, personal, own = (_evaluate(directory, kept=kept) for kept in ("nothing", "personal", "own"))
    with (directory / "sites.csv").open() as file:
        last = {row["site"]: row for row in csv.DictReader(file) if row["outcome"] == "evaluated"}
    for site, row in last.items():
        assert personal[site].evaluation.loss == pytest.approx(float(row["received_test_loss"]), rel=1e-5)
        assert len({found[site].evaluation.loss for found in (shared, personal, own)}) == 3
    assert not any("running" in tensor.name for tensor in read_adapter(directory / "adapter").config.tensors)
    assert SavedRun.find(directory).personal_of_adapter() == ("statistics of batchnorm",)
    assert "statistics of batchnorm: these parts stayed" in (directory / "MODEL_CARD.md").read_text()
