from __future__ import annotations

import pytest

from fedmedpeft.components import ConfigError
from fedmedpeft.tasks import TASKS, Classification, build_task


@pytest.mark.parametrize("name", TASKS.names())
def test_every_task_says_what_tables_need(name: str) -> None:
    task = build_task(name, ("a", "b"))
    assert task.name == name
    assert task.primary in task.metrics
    assert set(task.secondary) <= set(task.metrics) - {task.primary}
    assert set(task.claimed) <= set(task.metrics)
    assert len(task.heading) <= 8  # the width of its column
    assert "\n" not in task.summary
    assert task.classes == (() if task.classes_from == "nothing" else ("a", "b"))


@pytest.mark.parametrize("name", TASKS.names())
def test_counts_fit_the_samples_they_are_of(name: str) -> None:
    task = build_task(name, ("a", "b"))
    counts = task.ideal_counts([3, 4])
    task.vet(counts, 7)
    metrics = task.metrics_of_counts(counts)
    assert set(metrics) == set(task.metrics) - set(task.claimed)
    assert metrics[task.primary] == 1.0
    with pytest.raises(ValueError):  # noqa: PT011 - tasks word it as they like
        task.vet(counts, 8)
    assert isinstance(task.show_counts(counts), dict)


@pytest.mark.parametrize("name", TASKS.names())
def test_a_task_is_made_again_from_what_it_says(name: str) -> None:
    task = build_task(name, ("a", "b"))
    again = build_task(str(task.spec), task.classes)
    assert (type(again), again.options, again.classes) == (type(task), task.options, task.classes)


def test_the_data_names_the_classes_only_where_nobody_agrees_on_them() -> None:
    assert build_task("classification").of_data(("x", "y")).classes == ("x", "y")
    assert build_task("vqa").of_data(("x", "y")).classes == ()
    assert build_task("vqa").agrees
    assert not Classification().agrees


def test_an_unknown_task_or_option() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'classification'"):
        build_task("clasification")
    with pytest.raises(ConfigError, match="Did you mean 'min_count'"):
        build_task("vqa(mincount=3)")
