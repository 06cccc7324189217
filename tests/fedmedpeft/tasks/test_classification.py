from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmedpeft.components import ConfigError
from fedmedpeft.data import DataError
from fedmedpeft.data.source import ImageTable
from fedmedpeft.data.split import Split
from fedmedpeft.tasks import Classification

_TASK = Classification(("a", "b", "c"))


def _split(*labels: int) -> Split:
    images = torch.zeros(len(labels), 3, 4, 4, dtype=torch.uint8)
    return Split(images, torch.tensor(labels, dtype=torch.long), np.arange(len(labels)))


def test_prior_is_log_frequency_with_one_more_of_each() -> None:
    prior = _TASK.prior(_split(0, 0, 0, 1), 2.0)
    torch.testing.assert_close(prior, 2 * torch.log(torch.tensor([4.0, 2.0, 1.0]) / 7))


def test_logit_adjustment_moves_the_best_constant_answer_to_uniform() -> None:
    """A model that only learns the skew of its site learns nothing with the correction: its best logits are equal."""
    split, rows = _split(*[0] * 70, *[1] * 20, *[2] * 10), torch.arange(100)
    logits = torch.zeros(3, requires_grad=True)
    prior = torch.log(torch.tensor([0.7, 0.2, 0.1]))
    _TASK.loss_of(logits.expand(100, 3), split, rows, prior).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3), atol=1e-6, rtol=0)
    plain = cross_entropy(torch.zeros(100, 3), split.labels)
    assert _TASK.loss_of(torch.zeros(100, 3), split, rows) == plain


def test_the_loss_is_of_the_rows_asked_for() -> None:
    split, rows = _split(0, 1, 2, 2), torch.tensor([3, 1])
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    assert _TASK.loss_of(logits, split, rows) == cross_entropy(logits, torch.tensor([2, 1]))


def test_evaluation_counts() -> None:
    found = _TASK.score(torch.tensor([[2.0, 0, 0], [0, 0, 3.0], [0, 1.0, 0]]), _split(0, 1, 1))
    assert found.samples == 3
    assert _TASK.show_counts(found.counts) == {"confusion": [[1, 0, 0], [0, 1, 1], [0, 0, 0]]}
    assert found.metrics["balanced_accuracy"] == 0.75
    assert tuple(found.metrics) == ("accuracy", "balanced_accuracy", "macro_f1", "quadratic_kappa", "auroc")
    of_counts = _TASK.metrics_of_counts(found.counts)
    assert of_counts == {name: value for name, value in found.metrics.items() if name != "auroc"}


def test_an_empty_split_is_no_error() -> None:
    found = _TASK.score(torch.zeros(0, 3), _split())
    assert (found.samples, found.metrics, found.counts) == (0, {}, (0,) * 9)
    assert math.isnan(found.loss)


def test_counts_of_another_number_of_samples_or_classes_are_refused() -> None:
    _TASK.vet([1, 0, 0, 0, 1, 0, 0, 0, 1], 3)
    for counts in ([], [3, 0, 0, 0], [1] * 9, [-1, 4, 0, 0, 0, 0, 0, 0, 0]):
        with pytest.raises(ValueError, match="confusion matrix"):
            _TASK.vet(counts, 3)


def test_ideal_counts_are_those_of_a_model_that_is_always_right() -> None:
    counts = _TASK.ideal_counts([5, 0, 2])
    _TASK.vet(counts, 7)
    assert _TASK.metrics_of_counts(counts)["accuracy"] == 1.0


def test_labels_of_data_with_fewer_classes_are_read_by_name() -> None:
    aligned = _TASK.align(_split(0, 1, 0), ("a", "c"))
    assert aligned.labels.tolist() == [0, 2, 0]
    with pytest.raises(DataError, match="does not know: d"):
        _TASK.align(_split(0), ("a", "d"))


def test_questions_with_answers_are_another_task() -> None:
    columns = {"texts": ("what is this", "is it"), "answers": ("a lung", "yes")}
    table = ImageTable(("1", "2"), np.array([0, 0]), ("x",), **columns)
    with pytest.raises(ConfigError, match="'rad' has questions with answers.*task='vqa'"):
        _TASK.check_table(table, "rad")
    _TASK.check_table(ImageTable(("1", "2"), np.array([0, 0]), ("x",), texts=columns["texts"]), "captions")
