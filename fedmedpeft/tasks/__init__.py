"""Tasks: head, loss and metrics."""

from fedmedpeft.tasks.classification import Classification, Evaluation
from fedmedpeft.tasks.metrics import METRICS, metrics_of_confusion

__all__ = ["METRICS", "Classification", "Evaluation", "metrics_of_confusion"]
