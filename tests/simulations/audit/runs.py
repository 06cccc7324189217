"""Small audits: random images with random labels, which can be learnt by heart only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from clients.site_model import SiteModel
from fedmedpeft.config import RunConfig
from fedmedpeft.data.site_data import SiteData
from fedmedpeft.data.split import Split
from fedmedpeft.learner import build_learner
from fedmedpeft.privacy.accountant import Spending, epsilon, noise_for
from fedmedpeft.privacy.randomness import SeededRandomness
from fedmedpeft.training.private import DpSgd
from simulations.audit.audited import AuditedPrivacy, AuditRun, as_configured

CLASSES = ("a", "b", "c")


def random_split(count: int) -> Split:
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, len(CLASSES), (count,), generator=generator), np.arange(count))


def audit_run(
    backbone: Path, *, units: int = 48, method: str = "head", budget: float = 0.0, **settings: object
) -> AuditRun:
    """An audit of ``units`` records; ``budget`` is epsilon at delta 1e-5, 0 is no privacy."""
    values = {"backbone": str(backbone), "method": method, "rounds": 4, "local-steps": 10, "batch-size": 12, **settings}
    config = RunConfig.from_mapping(values)
    learner = build_learner(config, CLASSES)
    train = random_split(units)
    data = SiteData("one", train, random_split(2), random_split(2), CLASSES, {})
    return AuditRun(
        config=config,
        site="one",
        data=data,
        model=SiteModel(learner, learner.export(learner.manifest())),
        privacy=private(config, units, budget) if budget else None,
        seed=config.seed,
        effort="quick",
        say=lambda line: None,
        synthetic=True,
        mechanism=seeded,
    )


def private(config: RunConfig, units: int, budget: float) -> AuditedPrivacy:
    rate, steps = config.batch_size / units, config.total_steps
    noise = noise_for(budget, 1e-5, rate, steps)
    return AuditedPrivacy(epsilon([Spending(noise, rate, steps)], 1e-5), 1e-5, noise, rate, steps)


def seeded(privacy: AuditedPrivacy) -> DpSgd:
    """The configured step, with draws that a test can repeat."""
    return replace(as_configured(privacy), randomness=SeededRandomness(1))
