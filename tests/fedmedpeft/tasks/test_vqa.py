from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from fedmedpeft.backbones import load_backbone, standard_meter_record
from fedmedpeft.components import ConfigError
from fedmedpeft.data import DataError
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.split import Split
from fedmedpeft.learner import Learner, learner_skeleton
from fedmedpeft.tasks import build_task
from fedmedpeft.tasks.answers import soft_targets
from fedmedpeft.tasks.vqa import Vqa, VqaOptions, answer_loss
from fedmedpeft.text import Text

_TASK = Vqa(("left", "no", "yes"))


def _split(answers: tuple[str, ...], kinds: tuple[str, ...] | None = None) -> Split:
    count = len(answers)
    text = Text(torch.ones(count, 2, dtype=torch.int64), torch.ones(count, 2, dtype=torch.bool))
    images = torch.zeros(count, 3, 4, 4, dtype=torch.uint8)
    labels = torch.zeros(count, dtype=torch.int64)
    return Split(images, labels, np.arange(count), text=text, answers=answers, answer_types=kinds)


@pytest.mark.parametrize("system", ["meter", "m3ae"])
def test_targets_and_loss_are_those_of_the_published_systems(golden: Path, system: str) -> None:
    values = load_file(golden / system / "io.safetensors")
    logits = values["out.vqa_logits"]
    targets = soft_targets(values["in.vqa_label_ids"], values["in.vqa_label_scores"], logits.shape[1])
    assert torch.equal(targets, values["out.vqa_targets"])
    torch.testing.assert_close(answer_loss(logits, targets), values["out.vqa_loss"].squeeze(), atol=1e-5, rtol=1e-6)
    exact = answer_loss(values["f64.out.vqa_logits"], values["f64.out.vqa_targets"])
    torch.testing.assert_close(exact, values["f64.out.vqa_loss"].squeeze(), atol=1e-9, rtol=0)


def test_the_loss_is_of_the_rows_asked_for_and_an_unknown_answer_is_a_row_of_zeros() -> None:
    split, rows = _split(("yes", "spleen", "left")), torch.tensor([1, 0])
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0.0, 0, 0], [0, 0, 1]])
    expected = nn.functional.binary_cross_entropy_with_logits(logits, targets) * 3
    torch.testing.assert_close(_TASK.loss_of(logits, split, rows), expected)


def test_unseen_answers_count_as_wrong() -> None:
    split = _split(("yes", "no", "left", "spleen"), ("closed", "closed", "open", "open"))
    found = _TASK.score(torch.eye(3)[[2, 2, 0, 0]], split)
    assert found.samples == 4
    assert found.metrics == {"accuracy": 0.5, "closed_accuracy": 0.5, "open_accuracy": 0.5, "answerable": 0.75}
    assert _TASK.show_counts(found.counts) == {
        "closed": {"score": 1.0, "questions": 2, "answerable": 2},
        "open": {"score": 1.0, "questions": 2, "answerable": 1},
    }


def test_without_types_all_questions_are_open() -> None:
    metrics = _TASK.score(torch.eye(3)[[2]], _split(("yes",))).metrics
    assert (metrics["open_accuracy"], metrics["accuracy"]) == (1.0, 1.0)
    assert math.isnan(metrics["closed_accuracy"])


def test_an_empty_split_is_no_error() -> None:
    found = _TASK.score(torch.zeros(0, 3), _split((), ()))
    assert (found.samples, found.metrics, found.counts) == (0, {}, (0,) * 6)
    assert math.isnan(found.loss)


_ANSWERS = st.lists(
    st.tuples(st.sampled_from(["yes", "no", "left", "spleen"]), st.sampled_from(["closed", "open"]), st.integers(0, 2)),
    min_size=1,
    max_size=20,
)


@given(_ANSWERS, st.integers(0, 20))
def test_counts_of_sites_add_up_to_the_union(rows: list[tuple[str, str, int]], cut: int) -> None:
    def score(part: list[tuple[str, str, int]]) -> tuple[int, ...]:
        answers, kinds, chosen = zip(*part, strict=True) if part else ((), (), ())
        found = _TASK.score(torch.eye(3)[list(chosen)], _split(answers, kinds))
        _TASK.vet(found.counts, len(part))
        if part:
            of_counts = _TASK.metrics_of_counts(found.counts)
            assert all(of_counts[name] == pytest.approx(found.metrics[name], nan_ok=True) for name in _TASK.metrics)
        return found.counts

    one, other, union = score(rows[:cut]), score(rows[cut:]), score(rows)
    assert tuple(a + b for a, b in zip(one, other, strict=True)) == union


@pytest.mark.parametrize(
    "counts",
    [
        [],
        [1000, 1, 1, 0, 1],
        [1000, 1, 1, 0, 2, 0],
        [-1, 1, 1, 0, 1, 0],
        [2000, 1, 1, 0, 1, 0],
        [1000, 1, 0, 0, 1, 0],
        [0, 1, 2, 0, 1, 0],
        [0, 2**64, 0, 0, 2 - 2**64, 0],
    ],
)
def test_counts_that_cannot_be(counts: list[int]) -> None:
    _TASK.vet([1000, 1, 1, 0, 1, 0], 2)
    with pytest.raises(ValueError, match="questions|right"):
        _TASK.vet(counts, 2)


def test_ideal_counts() -> None:
    counts = _TASK.ideal_counts([5, 2])
    _TASK.vet(counts, 7)
    assert _TASK.metrics_of_counts(counts)["accuracy"] == 1.0


@pytest.mark.parametrize(("options", "hidden"), [(VqaOptions(), 64), (VqaOptions(hidden=8), 8)])
def test_the_head_is_meters_with_its_keys(tiny_meter: str, options: VqaOptions, hidden: int) -> None:
    learner = Learner(load_backbone(tiny_meter), "layernorm", Vqa(("a", "b", "c"), options), 7)
    head = {name: t.parameter for name, t in learner.trainables.items() if t.owner == "head"}
    shapes = {name: tuple(parameter.shape) for name, parameter in head.items()}
    assert shapes == {
        "head.0.weight": (hidden, 64),
        "head.0.bias": (hidden,),
        "head.1.weight": (hidden,),
        "head.1.bias": (hidden,),
        "head.3.weight": (3, hidden),
        "head.3.bias": (3,),
    }
    assert head["head.0.weight"].std().item() == pytest.approx(0.02, rel=0.2)
    assert not head["head.0.bias"].any()
    assert isinstance(learner.head[1], nn.LayerNorm)  # type: ignore[index]
    assert learner.head[1].eps == 1e-5  # type: ignore[index]


def test_the_published_head_has_as_many_parameters() -> None:
    """For VQA-RAD's 498 answers."""
    answers = [str(label) for label in range(498)]
    learner = learner_skeleton(standard_meter_record(), "head", answers, "vqa")
    assert learner.manifest().numel("head") == 3_129_330


def test_a_backbone_for_images_is_refused(tiny_backbone: Path) -> None:
    with pytest.raises(ConfigError, match="task='vqa' reads a text.*reads images only"):
        Learner(load_backbone(str(tiny_backbone)), "head", _TASK, 0)


def test_a_method_with_a_head_of_its_own_is_refused(tiny_clip_pair: Path) -> None:
    task = build_task("vqa", ("a", "b"))
    task.check_backbone = lambda backbone: None  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="head of its own.*task='vqa'"):
        Learner(load_backbone(str(tiny_clip_pair)), "textual-prompts", task, 0)


def test_data_without_answers_or_with_none_that_is_known() -> None:
    table = ImageTable(("1",), np.array([0]), ("x",), texts=("what is this",))
    with pytest.raises(ConfigError, match="'captions' has texts without answers.*task='classification'"):
        _TASK.check_table(table, "captions")
    with pytest.raises(ConfigError, match="'x-rays' has no questions"):
        _TASK.check_table(ImageTable(("1",), np.array([0]), ("x",)), "x-rays")
    _TASK.check(_split(("spleen", "yes")))
    with pytest.raises(DataError) as raised:
        _TASK.check(_split(("spleen", "kidney")))
    assert "spleen" not in raised.value.public
    assert "among the run's answers" in raised.value.public


def test_its_spec_says_what_the_head_is_and_not_how_it_was_agreed_on() -> None:
    task = build_task("vqa(min_count=5, answers='/somewhere/secret.txt', hidden=8)", ("a",))
    assert str(task.spec) == "vqa(hidden=8)"
    assert str(_TASK.spec) == "vqa"
    again = build_task(task.spec, task.classes)
    assert isinstance(again, Vqa)
    assert (again.classes, again.options.hidden) == (("a",), 8)


def test_before_training_every_answer_is_as_rare_as_answers_are(tiny_meter: str) -> None:
    """Lin et al., Focal loss: with 1 / 2 each, learning that most are wrong takes the first steps of a run."""
    answers = ("left", "no", "right", "yes")
    heads = {
        start: Learner(load_backbone(tiny_meter), "head", build_task(f"vqa(rare_start={start})", answers), 0).head
        for start in ("true", "false")
    }
    rare, published = (heads[start].get_parameter("3.bias") for start in ("true", "false"))
    torch.testing.assert_close(torch.sigmoid(rare), torch.full((4,), 0.25))
    assert torch.equal(published, torch.zeros(4))
    assert torch.equal(heads["true"].get_parameter("3.weight"), heads["false"].get_parameter("3.weight"))


@pytest.mark.parametrize("answers", [("yes",), ("no", "yes")])
def test_a_start_exists_for_one_answer_too(tiny_meter: str, answers: tuple[str, ...]) -> None:
    head = Learner(load_backbone(tiny_meter), "head", build_task("vqa", answers), 0).head
    assert torch.equal(head.get_parameter("3.bias"), torch.zeros(len(answers)))


@pytest.mark.parametrize("start", ["true", "false"])
def test_how_the_head_starts_changes_nothing_of_what_travels(start: str) -> None:
    record, task = standard_meter_record(288), f"vqa(rare_start={start})"
    skeleton = learner_skeleton(record, "head", ("left", "no", "yes"), task)
    assert skeleton.manifest().hash == learner_skeleton(record, "head", ("left", "no", "yes"), "vqa").manifest().hash
