from __future__ import annotations

import math

import torch
from torch.nn.functional import cross_entropy

from fedmedpeft.tasks import Classification

_TASK = Classification(("a", "b", "c"))


def test_prior_is_log_frequency_with_one_more_of_each() -> None:
    prior = _TASK.log_prior(torch.tensor([0, 0, 0, 1]), 2.0)
    torch.testing.assert_close(prior, 2 * torch.log(torch.tensor([4.0, 2.0, 1.0]) / 7))


def test_logit_adjustment_moves_the_best_constant_answer_to_uniform() -> None:
    """A model that only learns the skew of its site learns nothing with the correction: its best logits are equal."""
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    logits = torch.zeros(3, requires_grad=True)
    prior = torch.log(torch.tensor([0.7, 0.2, 0.1]))
    _TASK.loss(logits.expand(100, 3), labels, prior).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(3), atol=1e-6, rtol=0)
    assert _TASK.loss(torch.zeros(100, 3), labels) == cross_entropy(torch.zeros(100, 3), labels)


def test_evaluation_counts() -> None:
    found = _TASK.evaluate(torch.tensor([[2.0, 0, 0], [0, 0, 3.0], [0, 1.0, 0]]), torch.tensor([0, 1, 1]))
    assert found.samples == 3
    assert found.confusion.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert found.metrics["balanced_accuracy"] == 0.75


def test_an_empty_split_is_no_error() -> None:
    found = _TASK.evaluate(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    assert (found.samples, found.metrics) == (0, {})
    assert math.isnan(found.loss)
