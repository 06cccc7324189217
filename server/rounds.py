"""The federated rounds: ask, vet, aggregate, write down."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import ContractError, PeftState, Scores, VisitRequest
from fedmedpeft.exchange import flower as wire
from server.aggregation import Aggregator, Update
from server.courier import Answer, Courier, Say
from server.joining import Federation, Site
from server.quarantine import Expected, Quarantined, Vetted, vet_visit
from server.records import RoundRecord, SiteRecord
from server.run_directory import RunDirectory
from server.tables import RoundTable

ACCEPTED, EVALUATED, AGGREGATED = "accepted", "evaluated", "aggregated"


def sample_sites(sites: Sequence[Site], fraction: float, least: int, seed: int, round_: int) -> list[Site]:
    """The sites asked in one round, by name; the same for the same seed and round, whatever happened before."""
    wanted = min(len(sites), max(least, math.ceil(fraction * len(sites) - 1e-9)))
    drawn = np.random.default_rng([seed, round_]).choice(len(sites), size=wanted, replace=False)
    return [sites[index] for index in sorted(drawn)]


@dataclass(frozen=True)
class Visit:
    """One round of visits: every site's record, and the answers that count, by site."""

    records: tuple[SiteRecord, ...]
    vetted: Mapping[str, Vetted]
    seconds: float

    def scores(self, split: str) -> dict[str, Scores]:
        """By site, of the state that was sent."""
        return {site: vetted.scores[split] for site, vetted in self.vetted.items() if split in vetted.scores}


@dataclass
class RoundLoop:
    """Runs the rounds of one federated run.

    Args:
        run: its name.
        config: its configuration.
        federation: the sites and what they agreed on.
        aggregator: turns updates into the next state.
        least: usable answers below which a round leaves the state as it was.
        proximal: FedProx's mu.
        courier: to the sites.
        directory: of the run.
        say: for the person who watches.
    """

    run: str
    config: RunConfig
    federation: Federation
    aggregator: Aggregator
    least: int
    proximal: float
    courier: Courier
    directory: RunDirectory
    say: Say
    aggregated: int = field(default=0, init=False)
    """Rounds so far that changed the state."""

    def __post_init__(self) -> None:
        self._table = RoundTable(self.say)

    def train_and_test(self, state: PeftState, joined: RoundRecord) -> tuple[PeftState, dict[str, dict[str, Scores]]]:
        """All rounds from ``state``, and the last visit, in which every site tests the final state.

        Args:
            state: the initial global state.
            joined: row 0, "before training"; its scores arrive with the first visit.

        Returns:
            The final global state, and test scores by model (``federated``; ``personalised`` for what sites made of it
            alone) and site. A site that failed the last visit has none.
        """
        config, pending = self.config, joined
        for round_ in range(1, config.rounds + 1):
            sites = sample_sites(self.federation.sites, config.sampling_fraction, self.least, config.seed, round_)
            visit = self._visit(sites, state, round_, last=False)
            self._publish(pending, visit)
            state, outcome = self._aggregate(round_, state, visit)
            self.directory.checkpoint(round_, state)
            pending = RoundRecord(
                round=round_,
                asked=len(sites),
                used=len(visit.vetted) if outcome == AGGREGATED else 0,
                outcome=outcome,
                down=sum(record.down for record in visit.records),
                up=sum(record.up for record in visit.records),
                seconds=visit.seconds,
            )
        visit = self._visit(self.federation.sites, state, config.rounds + 1, last=True)
        self._publish(pending, visit)
        return state, {"federated": visit.scores("test"), "personalised": visit.scores("own-test")}

    def _visit(self, sites: Sequence[Site], state: PeftState, round_: int, *, last: bool) -> Visit:
        began = time.monotonic()
        request = VisitRequest(
            self.run, round_, last, self.federation.fingerprint, 0.0 if last else self.proximal, state.encode()
        )
        phase = "final" if last else "rounds"
        answers = self.courier.ask(phase, wire.VISIT, {site.node: request for site in sites}, group=str(round_))
        records, vetted, sent_hash = [], {}, state.hash()
        for site in sites:
            answer = answers[site.node]
            expected = Expected(
                site=site.name,
                samples=site.samples,
                round=round_,
                last=last,
                classes=len(self.federation.classes),
                contract=self.federation.contract,
                sent_hash=sent_hash,
            )
            try:
                vetted[site.name] = vet_visit(answer, expected)
                records.append(_record(round_, site, answer, vetted[site.name]))
            except Quarantined as reason:
                records.append(SiteRecord(round_, site.name, str(reason), down=answer.down, up=answer.up))
        self.directory.add_sites(records)
        return Visit(tuple(records), vetted, time.monotonic() - began)

    def _publish(self, pending: RoundRecord, visit: Visit) -> None:
        """The scores that came in belong to the round before: complete its row, then say who was left out of this."""
        complete = replace(pending, scores=visit.scores("val"))
        self.directory.add_round(complete)
        self._table.add(complete)
        for record in visit.records:
            if record.outcome not in (ACCEPTED, EVALUATED):
                place = "the last visit" if record.round > self.config.rounds else f"round {record.round}"
                self.say(f"       {record.site} is left out of {place}: {record.outcome}")

    def _aggregate(self, round_: int, state: PeftState, visit: Visit) -> tuple[PeftState, str]:
        """The next state and "aggregated", or the same state and why not."""
        updates = [Update(name, v.state, v.reply.samples) for name, v in visit.vetted.items() if v.state is not None]
        if len(updates) < self.least:
            return state, f"not aggregated: {len(updates)} usable answers, {self.least} needed"
        try:
            state = self.aggregator.aggregate(round_, state, updates)
        except ContractError as error:
            return state, f"not aggregated: the aggregate breaks the contract, {error}"
        self.aggregated += 1
        return state, AGGREGATED


def _record(round_: int, site: Site, answer: Answer, vetted: Vetted) -> SiteRecord:
    reply = vetted.reply
    return SiteRecord(
        round=round_,
        site=site.name,
        outcome=EVALUATED if vetted.state is None else ACCEPTED,
        samples=reply.samples,
        steps=reply.steps,
        loss=reply.loss,
        scores=vetted.scores,
        down=answer.down,
        up=answer.up,
        seconds=reply.seconds,
    )
