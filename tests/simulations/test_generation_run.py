"""Hospitals that learn to write answers. Images, questions and answers are synthetic."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fedmedpeft
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.tasks.generation import Generation
from tests.simulations.conftest import SITES, run_in_process, tiny_config

_LEVELS = {"lung": 40, "heart": 220}
METHODS = ("layernorm", "lora(where=decoder)", "prefix(where=decoder)", "p-tuning-v2(where=decoder)")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions about each of 30 images of one grey level, which is that of an organ."""
    directory = tmp_path_factory.mktemp("questions")
    rows = [("file", "question", "answer", "answer_type", "site", "split")]
    for index in range(30):
        organ = ("lung", "heart")[index % 2]
        name = f"{index}.png"
        Image.fromarray(np.full((32, 32, 3), _LEVELS[organ], dtype=np.uint8)).save(directory / name)
        split = "test" if index >= 24 else "val" if index >= 18 else "train"
        where = (f"hospital-{index % SITES}", split)
        rows.append((name, "what is in this image", f"the {organ}", "open", *where))
        rows.append((name, "is there a heart", "yes" if organ == "heart" else "no", "closed", *where))
    with (directory / "questions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return directory / "questions.csv"


@pytest.fixture(scope="module")
def encoder_decoder(tiny_backbone: Path, tiny_text_tower: Path) -> str:
    return f"encoder-decoder(vision='{tiny_backbone}', text='{tiny_text_tower}', text_length=16)"


def config_of(questions: Path, backbone: str, runs: Path, **changes: object) -> RunConfig:
    values: dict[str, object] = {
        "data": f"vqa(path='{questions}')",
        "partition": "natural",
        "task": "generation(max_length=6, beams=2)",
        "rounds": 1,
        "references": "none",
        "personalise-steps": 0,
        "personal": "none",
        "min-train-per-site": 2,
    }
    return tiny_config(Path(backbone), runs, **values | changes)


@pytest.mark.parametrize("method", METHODS)
def test_a_federation_finishes_and_what_it_learnt_writes(
    method: str, questions: Path, encoder_decoder: str, tmp_path: Path
) -> None:
    run = run_in_process(config_of(questions, encoder_decoder, tmp_path, method=method))
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["metric"], summary["unit"]) == ("exact_match", "questions")
    assert summary["results"]["federated"]["union_metrics"]["evaluated"] == 1
    learner = fedmedpeft.load(run / "adapter")
    assert isinstance(learner.task, Generation)
    images = torch.full((2, 3, 32, 32), 40, dtype=torch.uint8)
    written = learner.task.answers(learner, images, ["what is in this image", "is there a heart"])
    assert len(written) == 2


def test_it_learns_together(questions: Path, encoder_decoder: str, tmp_path: Path) -> None:
    """The decoder is trained: its cross-attention and language head start at random."""
    learns = {"method": "full(where='text,decoder')", "learning-rate": 3e-3, "rounds": 4, "local-steps": 25}
    run = run_in_process(config_of(questions, encoder_decoder, tmp_path, **learns))
    found = json.loads((run / "summary.json").read_text())["results"]["federated"]["union_metrics"]
    assert found["exact_match"] > 0.6
    assert found["bleu"] > 0.6
    assert found["rouge_l"] >= found["exact_match"]
    learner = fedmedpeft.load(run / "adapter")
    assert isinstance(learner.task, Generation)
    assert learner.task.options.max_length == 6


def test_knowledge_and_other_tasks_are_refused(
    questions: Path, encoder_decoder: str, tiny_meter: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="writes text"):
        run_in_process(config_of(questions, tiny_meter, tmp_path))
    with pytest.raises(ConfigError, match="task='generation'"):
        run_in_process(config_of(questions, encoder_decoder, tmp_path, task="vqa(min_count=1)"))
