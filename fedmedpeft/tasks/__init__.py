"""Tasks by name: head, loss and metrics. Every module of this package is imported here: a new task is one new file."""

import importlib
import pkgutil

from fedmedpeft.tasks.classification import Classification
from fedmedpeft.tasks.metrics import metrics_of_confusion
from fedmedpeft.tasks.task import TASKS, Evaluation, Head, Predictor, RowTask, Task, build_task, register_task

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "TASKS",
    "Classification",
    "Evaluation",
    "Head",
    "Predictor",
    "RowTask",
    "Task",
    "build_task",
    "metrics_of_confusion",
    "register_task",
]
