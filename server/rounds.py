"""The federated rounds: ask, vet, aggregate, write down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import ContractError, PeftState, Scores
from server.aggregation import Aggregator, Update
from server.courier import Say
from server.distribution import Distribution, Draws, groups_of
from server.joining import Site
from server.progress import Standing
from server.records import RoundRecord, SiteRecord
from server.roll import Roll
from server.run_directory import RunDirectory
from server.tables import RoundTable
from server.visits import ACCEPTED, EVALUATED, Visit, Visits

AGGREGATED = "aggregated"


def sites_asked(count: int, fraction: float, least: int) -> int:
    """How many of ``count`` sites are asked in a round."""
    return min(count, max(least, math.ceil(fraction * count - 1e-9)))


def sample_sites(sites: Sequence[Site], fraction: float, least: int, seed: int, round_: int) -> list[Site]:
    """The sites asked in one round, by name; the same for the same seed and round, whatever happened before."""
    wanted = sites_asked(len(sites), fraction, least)
    drawn = np.random.default_rng([seed, round_]).choice(len(sites), size=wanted, replace=False)
    return [sites[index] for index in sorted(drawn)]


@dataclass
class RoundLoop:
    """Runs the rounds of one federated run.

    Args:
        config: its configuration.
        roll: of the sites.
        visits: to them.
        aggregator: turns updates into the next state.
        least: usable answers below which a round leaves the state as it was.
        directory: of the run.
        say: for the person who watches.
        keep: writes a checkpoint.
    """

    config: RunConfig
    roll: Roll
    visits: Visits
    aggregator: Aggregator
    least: int
    directory: RunDirectory
    say: Say
    keep: Callable[[Standing], None]
    aggregated: int = field(default=0, init=False)
    """Rounds so far that changed the state."""
    spent: dict[str, SiteRecord] = field(default_factory=dict, init=False)
    """The last answer of each site that trains with privacy."""
    withheld: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False)
    """What sites keep back, by the last answer of each."""

    def __post_init__(self) -> None:
        self._table = RoundTable(self.say, self.roll.federation.task)

    def train_and_test(
        self, start: Standing, initial: PeftState | None
    ) -> tuple[PeftState, dict[str, dict[str, Scores]]]:
        """All rounds after ``start``, and the last visit, in which every site tests the final state.

        Args:
            start: after joining, with row 0 ("before training") pending: its scores arrive with the first visit. Or
                where an interrupted run had come to.
            initial: the state that all sites started from; may be None where a rotation lets nothing go back to it.

        Returns:
            The final global state, and test scores by model (``federated``; ``personalised`` for what sites made of it
            alone) and site. A site that failed the last visit has none.
        """
        config, pending, state = self.config, start.pending, start.state
        self.aggregated, self.spent, self.withheld = start.aggregated, dict(start.spent), dict(start.withheld)
        for round_ in range(start.round + 1, config.rounds + 1):
            self.roll.call()
            sites, draws = self._plan(round_)
            visit = self.visits.train(sites, state, round_, draws)
            self._publish(pending, visit)
            state, outcome = self._aggregate(round_, state, visit, draws)
            if round_ < config.rounds:
                state = self._settled(state, initial, round_ + 1)
            pending = RoundRecord(
                round=round_,
                asked=len(sites),
                used=len(visit.vetted) if outcome == AGGREGATED else 0,
                outcome=outcome,
                drawn=groups_of(self._distribution.rotation, draws),
                down=sum(record.down for record in visit.records),
                up=sum(record.up for record in visit.records),
                seconds=visit.seconds,
                private=self.visits.private.of_round(round_) if self.visits.private else None,
            )
            self.keep(Standing(round_, state, pending, self.aggregated, self.spent, self.withheld))
        visit = self.visits.test(self.roll.call(), state, config.rounds + 1)
        self._publish(pending, visit)
        return state, {"federated": visit.scores("test"), "personalised": visit.scores("own-test")}

    @property
    def _distribution(self) -> Distribution:
        return self.visits.distribution

    def _plan(self, round_: int) -> tuple[list[Site], Draws]:
        """Who is asked in a round, and what each of them trains."""
        config = self.config
        sites = sample_sites(self.roll.sites, config.sampling_fraction, self.least, config.seed, round_)
        return sites, self._distribution.draws([site.name for site in sites], round_)

    def _settled(self, state: PeftState, initial: PeftState | None, round_: int) -> PeftState:
        """``state`` as round ``round_`` starts from it: where updates do not persist, what rests in it goes back."""
        _, draws = self._plan(round_)
        back = self._distribution.going_back(draws)
        return state.updated(initial.only(initial.manifest.only(back))) if back and initial else state

    def _publish(self, pending: RoundRecord, visit: Visit) -> None:
        """The scores that came in belong to the round before: complete its row, then say who was left out of this."""
        complete = replace(pending, scores=visit.scores("val"), withheld=visit.withheld("val"))
        self.directory.add_round(complete)
        self._table.add(complete)
        self.directory.add_sites(visit.records)
        self.spent |= {record.site: record for record in visit.records if record.private}
        self.withheld |= {site: vetted.withheld for site, vetted in visit.vetted.items()}
        for record in visit.records:
            if record.outcome not in (ACCEPTED, EVALUATED):
                place = "the last visit" if record.round > self.config.rounds else f"round {record.round}"
                self.say(f"       {record.site} is left out of {place}: {record.outcome}")

    def _aggregate(self, round_: int, state: PeftState, visit: Visit, draws: Draws) -> tuple[PeftState, str]:
        """The next state and "aggregated", or the same state and why not."""
        updates = [
            Update(name, v.state, v.reply.samples, v.reply.within)
            for name, v in visit.vetted.items()
            if v.state is not None
        ]
        if len(updates) < self.least:
            return state, f"not aggregated: {len(updates)} usable answers, {self.least} needed"
        try:
            state = self.aggregator.aggregate(round_, state, updates)
        except ContractError as error:
            return state, f"not aggregated: the aggregate breaks the contract, {error}"
        self.aggregated += 1
        used = {update.site: draws[update.site] for update in updates}
        self._distribution.changed(round_, groups_of(self._distribution.rotation, used))
        return state, AGGREGATED
