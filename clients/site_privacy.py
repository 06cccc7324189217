"""Whether a site trains with differential privacy, and the account that pays for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from clients.site_store import SiteStore
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data.site_data import SiteData
from fedmedpeft.exchange import Refusal, SiteError
from fedmedpeft.learner import Learner
from fedmedpeft.privacy.accountant import BudgetExceeded, Spending, noise_for
from fedmedpeft.privacy.domain import Verdict
from fedmedpeft.privacy.ledger import Ledger, LedgerError
from fedmedpeft.privacy.options import DpOptions, PrivacySettings
from fedmedpeft.privacy.randomness import Randomness, SystemRandomness
from fedmedpeft.privacy.units import Units, largest_unit, units_of
from fedmedpeft.training.private import DpSgd, PrivacyError, refuse_private

_log = logging.getLogger("fedmedpeft.site")


@dataclass(frozen=True)
class Spent:
    """What the site's data has spent by now, for whoever the site tells."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class SitePrivacy:
    """One site's decision and its ledger.

    Args:
        settings: the site's own.
        config: of the run.
        data: the site's.
        store: knows where the ledger of a run lies.
        domain: compares the site's images with those of the backbone's domain; asked for in ``auto`` alone.
        randomness: of sampling and noise. The operating system's, except in tests.
    """

    settings: PrivacySettings
    config: RunConfig
    data: SiteData
    store: SiteStore
    domain: Callable[[], Verdict]
    randomness: Randomness = field(default_factory=SystemRandomness)

    @cached_property
    def options(self) -> DpOptions | None:
        """How this site trains with privacy; None: it does not.

        Raises:
            SiteError: ``auto`` cannot be decided, since the reference cannot be used.
        """
        mode, options = self.settings.mode, self.settings.options
        if mode != "auto" or self.settings.out_of_domain:
            return None if mode == "off" else options
        try:
            verdict = self.domain()
        except ConfigError as error:
            raise SiteError(Refusal.CONFIGURATION, str(error)) from error
        _log.info("%s: privacy is %s: %s", self.data.site, "on" if verdict.foreign else "off", verdict.why)
        return options if verdict.foreign else None

    @property
    def private(self) -> str:
        """What epsilon is per at this site; empty where it trains without privacy."""
        return self._units.kind if self.options else ""

    def check(self, learner: Learner) -> None:
        """Refuse what cannot be trained with privacy, where this site wants it.

        Raises:
            SiteError: a method, task or parameter whose per-record gradients cannot be bounded, or unusable settings.
        """
        if not self.options:
            return
        try:
            refuse_private(learner)
        except PrivacyError as error:
            raise SiteError(Refusal.PRIVACY, str(error)) from error

    def check_ledger(self, run: str) -> None:
        """Refuse a ledger that no visit could be paid from, before a run begins. Raises SiteError."""
        if self.options:
            self._ledger(run, self.options)

    def pay(self, run: str, round_: int) -> DpSgd | None:
        """Write a visit's training into the ledger, before it happens.

        Returns:
            How to train; None: without privacy.

        Raises:
            SiteError: the budget does not allow it, or the ledger cannot be used. Nothing is spent then.
        """
        options = self.options
        if options is None:
            return None
        ledger = self._ledger(run, options)
        try:
            plan = self._plan(ledger, run, options)
            visit = Spending(plan.noise_multiplier, plan.sample_rate, self.config.local_steps)
            spent = ledger.spend(run, round_, visit, budget=options.epsilon)
        except BudgetExceeded as error:
            _log.warning("%s: %s", self.data.site, error)
            raise SiteError(Refusal.BUDGET, "its privacy budget does not allow another round") from error
        except LedgerError as error:
            raise SiteError(Refusal.PRIVACY, error.public) from error
        _log.info("%s: epsilon %.3f of %.3g per %s", self.data.site, spent, options.epsilon, self.private)
        return DpSgd(
            noise_multiplier=visit.noise_multiplier,
            sample_rate=visit.sample_rate,
            clip=options.clip,
            unit=self._units.kind,
            records_per_unit=options.records_per_unit,
            physical_batch=options.physical_batch,
            randomness=self.randomness,
        )

    def spent(self, run: str) -> Spent | None:
        """What has been spent, where the site tells. Raises SiteError where the ledger cannot be used."""
        options = self.options
        if options is None or not options.report:
            return None
        ledger = self._ledger(run, options)
        return Spent(ledger.epsilon(options.accounting), ledger.delta)

    @cached_property
    def _units(self) -> Units:
        options = self.options
        assert options is not None
        split = self.data.train
        try:
            return units_of(split, largest_unit(split) if options.unit == "auto" else options.unit)
        except ConfigError as error:
            raise SiteError(Refusal.PRIVACY, str(error)) from error

    def _ledger(self, run: str, options: DpOptions) -> Ledger:
        try:
            return Ledger.open(
                self.store.ledger(run, options.ledger),
                data_hash=self.data.train_hash,
                unit=self._units.kind,
                delta=options.delta or None,
                units=self._units.count,
                accounting=options.accounting,
            )
        except LedgerError as error:
            _log.warning("%s: %s", self.data.site, error)
            raise SiteError(Refusal.PRIVACY, error.public) from error

    def _plan(self, ledger: Ledger, run: str, options: DpOptions) -> Spending:
        """The noise of a whole run, fixed at its first visit: as little as the budget allows for all its rounds.

        A ledger may outlive the run, and its name come again with another configuration: that is planned anew.
        """
        rate, steps = min(1.0, self.config.batch_size / self._units.count), self.config.total_steps
        if options.noise_multiplier:
            plan = Spending(options.noise_multiplier, rate, steps)
            ledger.plan(run, plan)
            return plan
        found = ledger.planned(run, budget=options.epsilon)
        if found and (found.sample_rate, found.steps) == (rate, steps):
            return found
        noise = noise_for(
            options.epsilon,
            ledger.delta,
            rate,
            steps,
            history=ledger.history,
            accounting=options.accounting,
        )
        plan = Spending(noise, rate, steps)
        ledger.plan(run, plan, budget=options.epsilon)
        return plan
