"""Stretches of training at a site that may go wrong, and evaluations as they travel."""

from __future__ import annotations

import hashlib
import math

from fedmedpeft.data.split import Split
from fedmedpeft.exchange import Refusal, Scores, SiteError
from fedmedpeft.tasks import Evaluation
from fedmedpeft.training import LocalTrainer, TrainingResult
from fedmedpeft.training.memory import out_of_memory
from fedmedpeft.training.private_refusal import PrivacyError


def train_stretch(trainer: LocalTrainer, split: Split, steps: int, purpose: str, first_step: int = 0) -> TrainingResult:
    """Train, with draws that depend on the run's seed and on ``purpose``.

    Raises:
        SiteError: the loss is not finite, a check of private training failed, or memory does not suffice.
    """
    digest = hashlib.sha256(f"{trainer.config.seed}/{purpose}".encode()).digest()
    seed = int.from_bytes(digest[:8], "big") >> 1
    try:
        result = trainer.train(split, first_step=first_step, steps=steps, seed=seed)
    except PrivacyError as error:
        raise SiteError(Refusal.PRIVACY, str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise SiteError(Refusal.MEMORY, "it ran out of memory, whatever part of a batch it tried") from error
    if trainer.tells_loss and not math.isfinite(result.loss):
        raise SiteError(Refusal.TRAINING, "the training loss is not finite; lower learning-rate")
    return result


def scores_of(evaluation: Evaluation) -> Scores:
    """Ready to be sent."""
    return Scores(evaluation.samples, evaluation.loss, evaluation.metrics, list(evaluation.counts))
