"""Local training: the loop, the step-size schedule, cached features."""

from fedmedpeft.training.features import FeatureCache
from fedmedpeft.training.local import LocalTrainer, TrainingResult
from fedmedpeft.training.predictor import LearnerPredictor
from fedmedpeft.training.schedule import Schedule

__all__ = ["FeatureCache", "LearnerPredictor", "LocalTrainer", "Schedule", "TrainingResult"]
