"""The groups that a split falls into, as each task's counts give them away."""

from __future__ import annotations

import pytest
import torch

from clients.egress.cells import cells
from clients.egress.withholding import counts_length
from fedmedpeft.tasks import build_task
from fedmedpeft.tasks.ranks import recall_counts
from fedmedpeft.tasks.task import TASKS
from fedmedpeft.tasks.text_metrics import answer_counts


def test_a_confusion_matrix_is_cells() -> None:
    assert cells(build_task("classification", ("a", "b")), [9, 1, 0, 3]) == [9, 1, 0, 3]


def test_questions_right_wrong_and_unanswerable() -> None:
    task = build_task("vqa", ("yes", "no"))
    assert cells(task, [7000, 10, 8, 0, 5, 5]) == [7, 1, 2, 0, 5, 0]


def test_searches_that_hit_late_or_never() -> None:
    scores = torch.eye(20)
    scores[0, :3] = torch.tensor([0.1, 0.9, 0.8])
    counts = recall_counts(scores, torch.arange(20))
    found = cells(build_task("retrieval"), counts)
    assert found is not None
    assert (sum(found[:4]), sum(found[4:])) == (20, 20)
    assert (counts[1], counts[5]) == (found[0], found[4])
    assert found[1] + found[2] + found[3] == 20 - counts[1]


def test_written_answers_by_kind() -> None:
    counts = answer_counts(["yes", "a", "b"], ["yes", "a", "c"], ["closed", "open", "open"], asked=5)
    assert cells(build_task("generation"), counts) == [2, 1, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_says_what_its_counts_are_of(name: str) -> None:
    task = build_task(name, ("a", "b", "c"))
    found = cells(task, task.ideal_counts([4, 5, 6]))
    assert found is not None
    assert min(found) >= 0
    assert max(found) <= 15
    assert len(task.ideal_counts([4, 5, 6])) == counts_length(task)


def test_a_task_that_is_not_known_says_nothing() -> None:
    task = build_task("classification", ("a", "b"))
    stranger = type("Stranger", (type(task),), {"name": "stranger"})(("a", "b"))
    assert cells(stranger, [1, 2, 3, 4]) is None
