"""Learners that start from a saved adapter, for the tests of both kinds of adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fedmedpeft.backbones import load_backbone
from fedmedpeft.config import RunConfig
from fedmedpeft.learner import Learner
from fedmedpeft.starting_state import load_start
from fedmedpeft.tasks import Classification

CLASSES = ("a", "b", "c")


def new_learner(backbone: Path, method: str, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Learner:
    return Learner(load_backbone(str(backbone)), method, Classification(classes), seed).eval()


def started_learner(backbone: Path, directory: Path, method: str, **more: Any) -> Learner:
    seed, classes = more.pop("seed", 0), more.pop("classes", CLASSES)
    learner = new_learner(backbone, method, seed, classes)
    load_start(learner, RunConfig(method=method, start_from=str(directory), seed=seed))
    return learner


def some_images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
