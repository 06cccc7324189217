"""What a training would cost in privacy, before anyone starts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fedmedpeft.components import ConfigError
from fedmedpeft.privacy.accountant import BudgetExceeded, Spending, epsilon, noise_for
from fedmedpeft.privacy.ledger import Ledger, LedgerError
from fedmedpeft.privacy.ledger_identity import check_delta
from fedmedpeft.privacy.terms import Accounting
from fedmedpeft.privacy.units import UNITS, Unit

_MARKS = (1, 5, 10)
"""After how many rounds the cost is shown, beside after all."""
_BOUNDS: tuple[Accounting, Accounting] = ("rdp", "prv")


@dataclass(frozen=True)
class Cost:
    """Epsilon, all that was spent before included, after so many rounds."""

    rounds: int
    steps: int
    rdp: float
    prv: float


@dataclass(frozen=True)
class Plan:
    """A training under privacy, and its price.

    Attributes:
        unit: what epsilon is per; ``units`` (n) and ``batch`` count these.
        sample_rate: q = batch / n.
        spent: epsilon (rdp) before it.
        budget: the epsilon that was asked for; None where a noise multiplier was.
        noise_multiplier, noise_multiplier_prv: z; where a budget was asked for, the smallest by rdp and by prv.
        noise_to_signal: standard deviation of the noise in each coordinate of the mean gradient, as a share of the
            clipping norm: z / (q n).
    """

    unit: Unit
    units: int
    batch: int
    delta: float
    sample_rate: float
    spent: float
    budget: float | None
    noise_multiplier: float
    noise_multiplier_prv: float
    noise_to_signal: float
    costs: tuple[Cost, ...]

    def sentences(self) -> Iterator[str]:
        """The plan in words."""
        spent = f" Spent before: epsilon {self.spent:.3f} (rdp)." if self.spent else ""
        yield f"Each step takes each of {self.units:,} {self.unit}s with probability {self.sample_rate:.4g}.{spent}"
        if self.budget is not None:
            yield (
                f"Epsilon {self.budget:g} per {self.unit} takes a noise multiplier of {self.noise_multiplier:.4g} by "
                f"rdp, of {self.noise_multiplier_prv:.4g} by prv."
            )
        yield (
            f"With {self.noise_multiplier:.4g} the noise in each coordinate of the mean gradient has a standard "
            f"deviation of {self.noise_to_signal:.3g} clipping norms; twice the batch halves it."
        )


def make_plan(
    *,
    history: Ledger | None,
    unit: str | None,
    units: int | None,
    batch: int,
    rounds: int,
    steps: int,
    delta: float | None,
    budget: float | None,
    noise: float | None,
) -> Plan:
    """Find the noise for ``budget``, or take ``noise``, and say what it costs on top of ``history``.

    Raises:
        ConfigError: numbers that do not go together, or that no training can have; no noise keeps within the budget.
    """
    if (budget is None) == (noise is None):
        raise ConfigError("Give either --epsilon (a budget) or --noise (a noise multiplier).")
    kind, count, chosen_delta = _terms(history, unit, units, delta)
    if batch > count:
        raise ConfigError(f"--batch {batch} is more than the {count:,} {kind}s. Take at most as many.")
    rate, spent = batch / count, () if history is None else history.history
    try:
        noises = [noise or 0.0] * len(_BOUNDS)
        if budget is not None:
            noises = [
                noise_for(budget, chosen_delta, rate, rounds * steps, history=spent, accounting=b) for b in _BOUNDS
            ]
        costs = tuple(_costs(spent, Spending(noises[0], rate, steps), rounds, chosen_delta))
    except (BudgetExceeded, ValueError) as error:
        raise ConfigError(str(error)) from None
    return Plan(
        unit=kind,
        units=count,
        batch=batch,
        delta=chosen_delta,
        sample_rate=rate,
        spent=epsilon(spent, chosen_delta),
        budget=budget,
        noise_multiplier=noises[0],
        noise_multiplier_prv=noises[1],
        noise_to_signal=noises[0] / batch,
        costs=costs,
    )


def _costs(spent: Sequence[Spending], each: Spending, rounds: int, delta: float) -> Iterator[Cost]:
    """On top of what was ``spent``, after some of ``rounds`` that spend as ``each`` does, and after all."""
    for mark in sorted({mark for mark in _MARKS if mark < rounds} | {rounds}):
        steps = mark * each.steps
        after = (*spent, replace(each, steps=steps))
        yield Cost(mark, steps, *(epsilon(after, delta, accounting) for accounting in _BOUNDS))


def _terms(history: Ledger | None, unit: str | None, units: int | None, delta: float | None) -> tuple[Unit, int, float]:
    """Unit, n and delta: as asked, else the ledger's, else a record and 1 / (10 n)."""
    kind = next((known for known in UNITS if known == unit), None)
    if unit is not None and kind is None:
        raise ConfigError(f"--unit {unit} is none of {', '.join(UNITS)}.")
    if history is not None and (kind not in (None, history.unit) or delta not in (None, history.delta)):
        raise ConfigError(
            f"The ledger counts per {history.unit} at delta={history.delta:g}: leave out --unit and --delta."
        )
    kind = kind or (history.unit if history is not None else "record")
    count = units or (history.units if history is not None else 0)
    if count < 1:
        raise ConfigError(f"How many {kind}s are trained on? Give --records, or a --ledger that knows.")
    if delta is None:
        delta = 1 / (10 * count) if history is None else history.delta
    try:
        check_delta(delta, kind, count)
    except LedgerError as error:
        raise ConfigError(str(error)) from None
    return kind, count, delta
