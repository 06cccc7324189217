"""What an audit works on: one simulated site of the run, its data, and the run's own way to train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from clients.site_model import SiteModel
from fedmedpeft.config import RunConfig
from fedmedpeft.data.site_data import SiteData
from fedmedpeft.learner import Learner
from fedmedpeft.privacy.terms import Accounting
from fedmedpeft.privacy.units import Unit, Units, largest_unit, units_of
from fedmedpeft.training import FeatureCache
from fedmedpeft.training.private import DpSgd

Effort = Literal["quick", "full"]


@dataclass(frozen=True)
class AuditedPrivacy:
    """Differential privacy of the run at the site, over all its steps.

    Attributes:
        epsilon: what the accountant says that the whole run spends; what it is per, ``unit`` says.
        delta: of the guarantee.
        noise_multiplier: standard deviation of the noise on the sum, in units of ``clip``.
        sample_rate: probability of each unit to be in a step.
        steps: optimiser steps of the whole run.
        clip: largest norm of what one unit adds to the sum.
        unit: what is protected one of.
        records_per_unit: records of one unit that a step looks at, at most.
        physical_batch: rows in memory at once.
        accounting: which accountant.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    sample_rate: float
    steps: int
    clip: float = 1.0
    unit: Unit = "record"
    records_per_unit: int = 4
    physical_batch: int = 64
    accounting: Accounting = "rdp"


def as_configured(privacy: AuditedPrivacy) -> DpSgd:
    """The step that the site would train with, its randomness from the operating system."""
    return DpSgd(
        noise_multiplier=privacy.noise_multiplier,
        sample_rate=privacy.sample_rate,
        clip=privacy.clip,
        unit=privacy.unit,
        records_per_unit=privacy.records_per_unit,
        physical_batch=privacy.physical_batch,
    )


@dataclass(frozen=True)
class AuditRun:
    """One audit.

    Attributes:
        config: of the run.
        site: whose data is attacked.
        data: of that site; read only.
        model: the learner that all trainings share, and where it starts.
        privacy: what the run would train with under privacy; None where there is none to compare with.
        seed: of everything that an attack draws. Which canaries are in comes from the operating system.
        effort: ``full`` trains more shadow models and optimises longer.
        say: takes one line of progress.
        synthetic: the images are generated, not patients'.
        shadows: models that membership inference trains of each kind; 0: as the effort says.
        notes: what could not be audited as it was asked for.
        mechanism: the private step. Whoever tests the audit puts a broken one here.
        cache: frozen features, computed once for all trainings.
    """

    config: RunConfig
    site: str
    data: SiteData
    model: SiteModel
    privacy: AuditedPrivacy | None
    seed: int
    effort: Effort
    say: Callable[[str], None]
    synthetic: bool = False
    shadows: int = 0
    notes: tuple[str, ...] = ()
    mechanism: Callable[[AuditedPrivacy], DpSgd] = as_configured
    cache: FeatureCache = field(default_factory=FeatureCache)

    @property
    def units(self) -> Units:
        """Whom an attack is after: those that privacy protects, or would."""
        split = self.data.train
        return units_of(split, self.privacy.unit if self.privacy else largest_unit(split))

    def fresh(self) -> Learner:
        """The learner back in its initial state, in evaluation mode. There is one: what it held before is gone."""
        learner = self.model.learner
        learner.load(self.model.initial)
        learner.load_kept({})
        return learner.eval()
