from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from fedmedpeft.backbones import BackboneRecord, skeleton
from fedmedpeft.components import ConfigError
from fedmedpeft.data.errors import DataError
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.split import Split
from fedmedpeft.tasks import build_task
from fedmedpeft.tasks.ranks import METRICS, SIZE
from fedmedpeft.tasks.retrieval import Retrieval, RetrievalOptions
from fedmedpeft.text import Text


class _Table:
    """A predictor that looks scores [N, N] up: of the image of a row with the text of another."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.scores, self.asked = scores, 0
        self.model: nn.Module = nn.Identity()

    def outputs(self, split: Split, rows: torch.Tensor, texts: torch.Tensor | None = None) -> torch.Tensor:
        assert texts is not None
        self.asked += len(rows)
        return self.scores[rows, texts][:, None]


def _split(image_of: list[int], words: list[int] | None = None) -> Split:
    """Texts of one word, by default each its own."""
    ids = torch.tensor(words if words is not None else range(3, 3 + len(image_of)))
    text = Text(torch.stack([torch.ones_like(ids), ids], dim=1), torch.ones(len(ids), 2, dtype=torch.bool))
    images = torch.zeros(max(image_of) + 1, 3, 2, 2, dtype=torch.uint8)
    rows = len(image_of)
    return Split(images, torch.zeros(rows, dtype=torch.int64), np.arange(rows), torch.tensor(image_of), text=text)


def _task(**options: float) -> Retrieval:
    return Retrieval((), RetrievalOptions.model_validate(options))


def _loss(task: Retrieval, predictor: _Table, split: Split, rows: list[int], seed: int = 0) -> float:
    generator = torch.Generator().manual_seed(seed)
    return float(task.loss(predictor, split, torch.tensor(rows), prior=None, generator=generator))


def test_a_model_that_knows_scores_one_and_a_constant_one_scores_nothing() -> None:
    split = _split(list(range(40)))
    knows = _task().evaluate(_Table(10 * torch.eye(40)), split)
    assert knows.metrics["mean_recall"] == 1
    assert knows.loss == pytest.approx(math.log(1 + 15 * math.exp(-10)))
    constant = _task().evaluate(_Table(torch.zeros(40, 40)), split)
    assert [constant.metrics[name] for name in METRICS if name != "chance"] == [0] * 7
    assert constant.loss == pytest.approx(math.log(16))
    assert constant.metrics["chance"] == pytest.approx((1 + 5 + 10) / 40 / 3, abs=1e-4)


def test_random_scores_reach_chance() -> None:
    split, generator = _split(list(range(30))), torch.Generator().manual_seed(0)
    found = [_task().evaluate(_Table(torch.randn(30, 30, generator=generator)), split).metrics for _ in range(60)]
    assert np.mean([one["mean_recall"] for one in found]) == pytest.approx(found[0]["chance"], abs=0.02)


def test_several_texts_of_an_image() -> None:
    """The second text of image 0 is its nearest; its first is nearest to image 1."""
    split = _split([0, 0, *range(1, 12)])
    scores = torch.full((13, 13), -5.0) + 10 * torch.eye(13)
    scores[0, 1], scores[1, 0] = 5, -5  # rows 0 and 1 are the same image, whatever text it came with
    scores[0, 0] = scores[1, 0] = 0
    scores[1, 1] = 5
    scores[2, 0] = 1
    found = _task().evaluate(_Table(scores), split)
    assert found.metrics["tr_recall_1"] == 1
    assert found.metrics["ir_recall_1"] == pytest.approx(12 / 13)
    assert found.samples == 13
    assert found.counts[4] == 12


def test_of_many_texts_so_many_are_drawn_the_same_at_every_visit() -> None:
    task, split = _task(at_most=10), _split(list(range(50)))
    scores = torch.randn(50, 50, generator=torch.Generator().manual_seed(1))
    predictor = _Table(scores)
    once, again = task.evaluate(predictor, split), task.evaluate(_Table(scores), split)
    assert once == again
    assert predictor.asked == 100
    assert (once.samples, once.counts[0], once.counts[4]) == (50, 10, 10)
    task.vet(once.counts, 50)
    with pytest.raises(ValueError, match="texts"):
        task.vet(once.counts, 9)


def test_loss_is_cross_entropy_over_one_right_and_the_negatives() -> None:
    """Only the texts of other images that say something else are asked for; what they score is known."""
    split = _split([0, 0, 1, 2, 3], [3, 4, 5, 3, 6])  # text 3 repeats text 0
    scores = torch.full((5, 5), -1000.0)
    scores[0] = torch.tensor([2.0, math.nan, 1.0, math.nan, 0.0])
    expected = -2 + math.log(math.exp(2) + math.exp(1) + 1)
    assert _loss(_task(negatives=15), _Table(scores), split, [0]) == pytest.approx(expected)
    drawn = {round(_loss(_task(negatives=1, hard=0.0), _Table(scores), split, [0], seed), 4) for seed in range(20)}
    assert drawn == {round(math.log(1 + math.exp(-1)), 4), round(math.log(1 + math.exp(-2)), 4)}


def test_an_empty_split() -> None:
    split = _split([0])
    empty = Split(split.images[:0], split.labels[:0], split.rows[:0], text=split.text)
    found = _task().evaluate(_Table(torch.zeros(0, 0)), empty)
    assert (found.samples, found.metrics, found.counts) == (0, {}, (0,) * SIZE)
    assert math.isnan(found.loss)
    _task().vet(found.counts, 0)


def test_one_image_to_evaluate_is_found_whatever_the_model_and_chance_says_so() -> None:
    found = _task().evaluate(_Table(torch.zeros(1, 1)), _split([0]))
    assert (found.metrics["mean_recall"], found.metrics["chance"], found.loss) == (1, 1, 0)


@pytest.mark.parametrize(
    ("split", "says"),
    [(_split([0, 0, 0]), "fewer than two training images"), (_split([0, 1, 2], [5, 5, 5]), "say the same")],
)
def test_a_site_from_which_nothing_can_be_learnt(split: Split, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        _task().check(split)
    assert says in caught.value.public


def test_a_site_without_texts() -> None:
    split = _split([0, 1])
    split.text = None
    with pytest.raises(DataError, match="texts"):
        _task().check(split)
    _task().check(_split([0, 1]))


@pytest.mark.parametrize(
    ("texts", "answers", "says"), [(None, None, "captions"), (("a", "b"), ("yes", "no"), "task='vqa'")]
)
def test_data_of_another_task(texts: tuple[str, ...] | None, answers: tuple[str, ...] | None, says: str) -> None:
    table = ImageTable(keys=("1", "2"), labels=np.zeros(2), classes=("x",), texts=texts, answers=answers)
    with pytest.raises(ConfigError, match=says):
        _task().check_table(table, "manifest")


def test_a_backbone_that_reads_no_texts(tiny_record: BackboneRecord) -> None:
    with pytest.raises(ConfigError, match="reads images only"):
        _task().check_backbone(skeleton(tiny_record))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("retrieval(negativs=3)", "Did you mean 'negatives'"),
        ("retrieval(negatives=0)", "greater than or equal to 1"),
        ("retrieval(hard=1.5)", "less than or equal to 1"),
        ("retrieval(at_most=5)", "greater than or equal to 10"),
        ("retrievel", "Did you mean 'retrieval'"),
    ],
)
def test_options_are_checked(spec: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_task(spec)


def test_it_is_made_again_from_what_it_says_of_itself() -> None:
    task = build_task("retrieval(hard=0.25,at_most=40)", ("caption",))
    again = build_task(task.spec)
    assert str(task.spec) == str(again.spec) == "retrieval(hard=0.25, at_most=40)"
    assert (task.classes, task.agrees) == ((), False)


def test_ideal_counts_are_counts() -> None:
    task = _task(at_most=20)
    for texts in (0, 3, 100):
        task.vet(task.ideal_counts([texts]), texts)
