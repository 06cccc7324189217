"""The site's privacy budget: what is spent, and what the announced run would take."""

from __future__ import annotations

import numpy as np

from clients.deployment.site_run import site_settings
from clients.preflight.check import Result, failed, passed, warned
from clients.preflight.facts import Facts
from clients.site_store import SiteStore
from fedmedpeft.data.source import ImageTable
from fedmedpeft.privacy.accountant import BudgetExceeded, noise_for
from fedmedpeft.privacy.ledger import Ledger, LedgerError
from fedmedpeft.privacy.options import DpOptions
from fedmedpeft.privacy.units import Unit

_MUCH_NOISE = 10.0
"""A noise multiplier with which little is learnt from a hospital's data."""


def check_budget(facts: Facts) -> Result:
    """Does the ledger open, and is enough left for the run? Nothing is written."""
    settings = site_settings(facts.site)
    options = settings.options
    if options is None:
        return passed("privacy is off: this site trains without differential privacy.")
    path = SiteStore.below(facts.config.runs_dir, facts.site.site).ledger(facts.site.site, options.ledger)
    ledger = None
    # Where only the head is left, the ledger was lost: reading it says so.
    if path.exists() or path.with_name(f"{path.name}.head").exists():
        try:
            ledger = Ledger.read(path, options.accounting)
        except LedgerError as error:
            return failed(
                f"the privacy ledger cannot be used: {error.public}",
                "`fedmedpeft privacy verify` on it says more. Do not delete it: put a backup back.",
                str(error),
            )
    unit, count = _units(facts, options)
    spent = ledger.epsilon() if ledger is not None else 0.0
    delta = ledger.delta if ledger is not None else options.delta or 1 / (10 * count)
    # A site that tells the server nothing of its spending tells a reader of this report nothing either.
    told = f"epsilon {spent:.3g} of" if options.report else "some of epsilon"
    told = f"{told} {options.epsilon:g} per {unit} is spent"
    if settings.mode == "auto" and not settings.out_of_domain:
        told += " ('auto': used where the images are out of the backbone's domain)"
    if ledger is not None and ledger.unit != unit:
        return failed(
            f"the ledger counts per {ledger.unit}, and this site's settings per {unit}.",
            f"Set unit='{ledger.unit}' in 'privacy'.",
        )
    if options.noise_multiplier:
        return passed(f"{told}; the noise is fixed by 'privacy'.")
    return _left(facts, options, ledger, told, delta, count)


def _left(facts: Facts, options: DpOptions, ledger: Ledger | None, told: str, delta: float, count: int) -> Result:
    config = facts.config
    run = f"{config.rounds} rounds of {config.local_steps} steps"
    try:
        noise = noise_for(
            options.epsilon,
            delta,
            min(1.0, config.batch_size / count),
            config.total_steps,
            history=ledger.history if ledger is not None else (),
            accounting=options.accounting,
        )
    except BudgetExceeded:
        return failed(
            f"{told}: what is left does not pay for {run}.",
            "The site would refuse. Ask for fewer rounds, or decide on a larger budget in 'privacy'.",
        )
    told = f"{told}; {run} fit with a noise multiplier of {noise:.3g}"
    if noise > _MUCH_NOISE:
        return warned(f"{told}, with which little is learnt.", "Ask for fewer steps, or decide on a larger budget.")
    return passed(f"{told}.")


def _units(facts: Facts, options: DpOptions) -> tuple[Unit, int]:
    """What epsilon is per, and how many of them are trained on; as the worker decides it, without decoding images."""
    table, rows = facts.source.table, facts.partition.rows(facts.site.site, "train")
    unit = _largest(table) if options.unit == "auto" else options.unit
    owners = {"patient": table.patients, "image": table.images}.get(unit)
    count = len(rows) if owners is None else len({owners[row] for row in rows.tolist()})
    return unit, max(count, 1)


def _largest(table: ImageTable) -> Unit:
    if table.patients is not None:
        return "patient"
    return "image" if len(np.unique(table.first_rows())) < len(table) else "record"
