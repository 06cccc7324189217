"""Hospitals that learn to answer questions, over answers that they agree on. Images and questions are synthetic."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, Message
from PIL import Image
from typer.testing import CliRunner

import fedmedpeft
from clients.app import app as clients_app
from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.cli import app
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import flower as wire
from server.errors import FederationError
from server.federation import run_federation
from simulations.estimate import estimate
from simulations.local_grid import LocalGrid
from simulations.preflight import check_components, plan_federation
from simulations.settings import read_settings
from simulations.study.cell import Cell
from simulations.study.cell_directory import CellDirectory, Outcome
from simulations.study.plan import make_plan
from simulations.study.report import write_report
from simulations.study.runner import StudyRunner
from simulations.study.study_file import Study
from tests.simulations.conftest import SITES, run_in_process, tiny_config
from tests.simulations.study.fakes import Silent

_GREY = {"lung": 40, "heart": 120, "brain": 210}
_RARE = "pneumonia of patient 4711"
"""An answer that one training question has, at one site."""
_UNSEEN = "nodule"
"""An answer that only a test question has."""
_IMAGES = {"data": "phantoms(images=120, scanners=3, size=32)", "task": "classification", "method": "lora"}


def write_questions(directory: Path, images: int = 60) -> Path:
    """Images of one grey level from three hospitals, each with an open and a closed question about it."""
    generator = np.random.default_rng(0)
    rows = []
    for index in range(images):
        organ = list(_GREY)[index % 3]
        pixels = _GREY[organ] + generator.normal(0, 8, (32, 32, 3))
        file, site = f"{index}.png", f"hospital-{index // 3 % SITES}"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(directory / file)
        split = ("train", "train", "train", "val", "test")[index // 9 % 5]
        asked = list(_GREY)[generator.integers(3)]
        rows.append((file, "what is in the image", organ, "open", split, site))
        rows.append((file, f"is this a {asked}", "Yes." if asked == organ else "no", "closed", split, site))
    first = rows[0][0]
    rows.append((first, "what is abnormal", _RARE, "open", "train", "hospital-0"))
    last = next(row for row in rows if row[4] == "test")
    rows.append((last[0], "what is abnormal", _UNSEEN, "open", "test", last[5]))
    path = directory / "questions.csv"
    with path.open("w", newline="") as file_:
        csv.writer(file_).writerows([("file", "question", "answer", "answer_type", "split", "site"), *rows])
    return path


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"))


def vqa_config(meter: str, questions: Path, runs: Path, **changes: object) -> RunConfig:
    values: dict[str, object] = {
        "data": f"vqa(path='{questions}')",
        "task": "vqa",
        "partition": "natural",
        "method": "layernorm+lora(where=fusion)",
        "personal": "none",
        "learning-rate": 5e-3,
        "batch-size": 8,
        "personalise-steps": 0,
    }
    return tiny_config(Path(meter), runs, **values | changes)


@pytest.fixture(scope="module")
def finished(tiny_meter: str, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with both references, and steps that each site takes alone at the end."""
    changes = {"references": "all", "personalise-steps": 2, "rounds": 2, "local-steps": 4}
    return run_in_process(vqa_config(tiny_meter, questions, tmp_path_factory.mktemp("runs"), **changes))


def _summary(run: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((run / "summary.json").read_text())
    return content


def test_the_vocabulary_is_of_frequent_training_answers(finished: Path) -> None:
    classes = read_adapter(finished / "adapter").config.classes
    assert classes == ("brain", "heart", "lung", "no", "yes")
    kept = (finished / "sites" / "hospital-1.classes.txt").read_text().splitlines()
    assert tuple(kept) == classes
    for path in finished.rglob("*.*"):
        assert _RARE.encode() not in path.read_bytes(), path


def test_all_models_are_scored_and_the_unseen_answer_counts_as_wrong(finished: Path) -> None:
    summary = _summary(finished)
    results = summary["results"]
    assert isinstance(results, dict)
    assert list(results) == ["local-only", "federated", "personalised", "pooled"]
    assert (summary["metric"], summary["unit"], summary["task"]) == ("accuracy", "questions", "vqa")
    for result in results.values():
        union = result["union_metrics"]
        assert set(union) == {"accuracy", "closed_accuracy", "open_accuracy", "answerable", "loss"}
        assert union["accuracy"] <= union["answerable"] < 1
    tested = sum(site["test"] for site in summary["sites"].values())  # type: ignore[attr-defined]
    assert results["federated"]["union_metrics"]["answerable"] == pytest.approx(1 - 1 / tested)


def test_bytes_are_measured_as_estimated_agreement_included(finished: Path) -> None:
    traffic = _summary(finished)["traffic"]
    assert isinstance(traffic, dict)
    config = RunConfig.from_mapping(tomllib.loads((finished / "config.toml").read_text())["config"])
    expected = estimate(plan_federation(config))
    assert list(traffic["phases"]) == ["answers", "join", "references", "rounds", "final"]
    for phase, seen in traffic["phases"].items():
        assert expected.phases[phase].down == pytest.approx(seen["down_bytes"], abs=100), phase
        assert expected.phases[phase].up == pytest.approx(seen["up_bytes"], abs=100), phase
    assert traffic["phases"]["answers"]["up_bytes"] > 0


def test_tables_and_card_speak_of_questions(finished: Path) -> None:
    with (finished / "rounds.csv").open() as file:
        assert "val_accuracy" in (csv.DictReader(file).fieldnames or [])
    with (finished / "sites.csv").open() as file:
        assert "received_test_open_accuracy" in (csv.DictReader(file).fieldnames or [])
    card = (finished / "MODEL_CARD.md").read_text()
    assert "Test accuracy" in card
    assert "all questions together" in card
    assert "| Task | `vqa` |" in card
    shown = CliRunner().invoke(app, ["runs", "show", str(finished)])
    assert shown.exit_code == 0, shown.output
    assert "val accuracy" in shown.output


def test_evaluate_gives_the_run_s_own_scores(finished: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(finished), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    with (finished / "sites.csv").open() as file:
        tested = {row["site"]: row for row in csv.DictReader(file) if row["outcome"] == "evaluated"}
    for site, row in tested.items():
        for metric in ("accuracy", "closed_accuracy", "open_accuracy", "answerable"):
            cell = row[f"received_test_{metric}"]
            assert found[site]["metrics"][metric] == pytest.approx(float(cell)), metric
        assert found[site]["loss"] == pytest.approx(float(row["received_test_loss"]), rel=1e-4)
    assert found["union"]["open"]["questions"] == sum(found[site]["open"]["questions"] for site in tested)


def test_the_adapter_is_a_model_again(finished: Path) -> None:
    learner = fedmedpeft.load(finished / "adapter", device="cpu")
    assert learner.task.name == "vqa"
    assert learner.backbone.tokenizer is not None
    text = learner.backbone.tokenizer.encode(["is this a lung", "what is in the image"], learner.backbone.text_length)
    assert learner(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), text).shape == (2, 5)


def test_a_federation_learns_to_answer(tiny_meter: str, questions: Path, tmp_path: Path) -> None:
    changes = {"rounds": 3, "local-steps": 25, "references": "none", "learning-rate": 1e-2}
    summary = _summary(run_in_process(vqa_config(tiny_meter, questions, tmp_path, **changes)))
    found = summary["results"]["federated"]["union_metrics"]  # type: ignore[index]
    assert found["open_accuracy"] > 0.75


def test_a_site_that_lost_its_answers_sits_one_round_out(tiny_meter: str, questions: Path, tmp_path: Path) -> None:
    """It is sent them again with the next visit, and nobody else is."""
    changes = {"rounds": 3, "local-steps": 1, "references": "none"}
    config = vqa_config(tiny_meter, questions, tmp_path, **changes)
    kept = tmp_path / "tiny" / "sites" / "hospital-1.classes.txt"

    def forgetful(message: Message, context: Context) -> Message:
        if message.metadata.message_type == wire.VISIT and wire.decode_visit_request(message.content).round == 2:
            kept.unlink()
        return clients_app(message, context)

    grid = LocalGrid({1: clients_app, 2: forgetful, 3: clients_app}, config.to_mapping(), simulated=True)
    run = run_federation(config, grid, [].append).path
    with (run / "sites.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["site"] == "hospital-1"]
    lost = "classes: it no longer has the run's classes"
    assert [row["outcome"] for row in rows] == ["joined", "accepted", lost, "accepted", "evaluated"]
    visits = [message for message in grid.log if message.metadata.message_type == wire.VISIT]
    sent = [(m.metadata.dst_node_id, wire.decode_visit_request(m.content)) for m in visits]
    anew = [(node, request.round) for node, request in sent if request.classes is not None]
    assert anew == [(2, 3)]
    assert kept.is_file()


def test_a_given_list_is_taken_in_its_order(tiny_meter: str, questions: Path, tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("Yes\nno\nbrain\nlung\nheart\nnodule\n")
    task = f"vqa(answers='{tmp_path / 'answers.txt'}')"
    run = run_in_process(vqa_config(tiny_meter, questions, tmp_path, task=task, references="none"))
    saved = read_adapter(run / "adapter").config
    assert saved.classes == ("yes", "no", "brain", "lung", "heart", "nodule")
    assert saved.task == "vqa"
    summary = _summary(run)
    assert list(summary["traffic"]["phases"]) == ["join", "rounds", "final"]  # type: ignore[index]
    assert summary["results"]["federated"]["union_metrics"]["answerable"] == 1.0  # type: ignore[index]


def test_knowledge_is_recorded_and_missed_where_it_is_not_given(
    tiny_meter: str, questions: Path, tmp_path: Path
) -> None:
    changes = {"method": "kpl", "knowledge": "radiology(concepts=2)", "rounds": 1, "local-steps": 1}
    run = run_in_process(vqa_config(tiny_meter, questions, tmp_path, references="none", **changes))
    assert read_adapter(run / "adapter").config.knowledge == "radiology(concepts=2)"
    for given, said in ((), False), (("--set", "knowledge="), True):
        result = CliRunner().invoke(app, ["evaluate", str(run), *given])
        assert result.exit_code == 0, result.output
        assert ("trained with knowledge='radiology(concepts=2)', here there is none" in result.output) is said


def test_a_run_that_starts_from_another_has_its_answers(
    finished: Path, tiny_meter: str, questions: Path, tmp_path: Path
) -> None:
    changes = {"start-from": str(finished), "references": "none", "rounds": 1, "local-steps": 1, "learning-rate": 1e-6}
    config = vqa_config(tiny_meter, questions, tmp_path, **changes, **{"head-learning-rate": 1e-6})
    check_components(plan_federation(config))
    run = run_in_process(config)
    before, after = read_adapter(finished / "adapter"), read_adapter(run / "adapter")
    assert after.config.classes == before.config.classes
    assert np.allclose(before.state.tensors()["head.3.weight"], after.state.tensors()["head.3.weight"], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": "vqa(min_count=1000)"}, "occurs 1000 times"),
        ({"task": "vqa(answers='{unknown}')"}, "None of its training answers is among the run's answers"),
        ({"task": "vqa(answers='{missing}')"}, "cannot be read"),
        ({"task": "classification"}, "'vqa' has questions with answers.*task='classification'"),
        ({"data": _IMAGES["data"]}, "no questions or captions.*task='vqa'"),
        ({"backbone": "{vision}"}, "task='vqa' reads a text.*reads images only"),
        ({**_IMAGES, "backbone": "{vision}", "knowledge": "open"}, "knowledge='open'.*reads images only"),
        ({**_IMAGES}, "images only, and backbone"),
        ({"task": "vqq"}, "Did you mean 'vqa'"),
        ({"method": "lora", "knowledge": "opem"}, "Did you mean 'open'"),
    ],
)
def test_what_does_not_go_together(
    tiny_meter: str, tiny_backbone: Path, questions: Path, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    (tmp_path / "unknown.txt").write_text("spleen\n")
    places = {"unknown": tmp_path / "unknown.txt", "missing": tmp_path / "missing.txt", "vision": tiny_backbone}
    changes = {key: value.format(**places) for key, value in changes.items()}
    config = vqa_config(changes.pop("backbone", tiny_meter), questions, tmp_path, **changes)
    with pytest.raises((ConfigError, FederationError), match=says):
        run_in_process(config)
    if "unknown" not in config.task:  # whether a list fits the data, each site finds for itself
        with pytest.raises(ConfigError, match=says):
            check_components(plan_federation(config))


def test_a_study_compares_by_the_tasks_own_metric(tiny_meter: str, questions: Path, tmp_path: Path) -> None:
    shared = {
        "backbone": tiny_meter,
        "data": f"vqa(path='{questions}')",
        "task": "vqa",
        "rounds": 1,
        "local-steps": 1,
        "batch-size": 4,
        "min-train-per-site": 4,
        "personalise-steps": 0,
    }
    content = {"name": "answers", "methods": ["head", "sadapter"], "seeds": [0], "learning-rate-scales": [0.5, 1.0]}
    plan = make_plan(Study.model_validate(content | {"partitions": ["natural"], "run": shared}))

    def execute(cell: Cell) -> Outcome:
        config = read_settings(CellDirectory(tmp_path, cell).prepare())
        run_in_process(config)
        return Outcome("", 1.0)

    StudyRunner(plan, tmp_path, execute, Silent()).run()
    rows = write_report(plan, tmp_path)
    assert [row.reason for row in rows] == [""] * 4
    with (tmp_path / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["chosen"] for line in lines} == {"true", "false"}
    assert all(float(line["val_accuracy"]) >= 0 and float(line["test_closed_accuracy"]) >= 0 for line in lines)
    with (tmp_path / "sites.csv").open() as file:
        assert {"accuracy", "open_accuracy", "answerable"} <= set(csv.DictReader(file).fieldnames or [])
    table = (tmp_path / "table.md").read_text()
    assert "Accuracy is on test questions" in table
    assert "best mean validation accuracy" in table
