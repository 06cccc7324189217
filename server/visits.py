"""One round of visits: what each site is sent, what it answers, and which answers count."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedmedpeft.exchange import Contract, PeftState, Scores, VisitRequest
from fedmedpeft.exchange import flower as wire
from server.client_privacy import ClientPrivacy
from server.comparison import Comparison
from server.courier import Answer, Courier
from server.distribution import Distribution, Draws
from server.errors import safe_reason
from server.joining import Federation, Site
from server.quarantine import Expected, Quarantined, Vetted, vet_visit
from server.records import SiteRecord

ACCEPTED, EVALUATED = "accepted", "evaluated"
ABSENT = 0
"""Stands for the node of a site that is not there. Flower gives it to none."""


@dataclass(frozen=True)
class Visit:
    """One round of visits: every site's record, and the answers that count, by site."""

    records: tuple[SiteRecord, ...]
    vetted: Mapping[str, Vetted]
    seconds: float

    def scores(self, split: str) -> dict[str, Scores]:
        """By site, of the state that was sent."""
        return {site: vetted.scores[split] for site, vetted in self.vetted.items() if split in vetted.scores}

    def withheld(self, split: str) -> tuple[str, ...]:
        """Sites whose answer counts and whose policy keeps the scores of ``split`` back."""
        return tuple(sorted(site for site, vetted in self.vetted.items() if split in vetted.withheld))


@dataclass(frozen=True)
class _Portion:
    """One request, the contract of its answers, and an answer that was not trained, with its hash."""

    request: VisitRequest
    contract: Contract
    untrained: PeftState
    untrained_hash: str


@dataclass(frozen=True)
class Visits:
    """Asks sites to evaluate a state and train on it, and judges what they answer.

    Args:
        run: its name.
        federation: the sites and what they agreed on.
        distribution: what each site trains and has.
        courier: to the sites.
        proximal: FedProx's mu.
        private: privacy of whole sites, where the run has it.
        comparison: of answers with each other and with earlier ones.
    """

    run: str
    federation: Federation
    distribution: Distribution
    courier: Courier
    proximal: float
    private: ClientPrivacy | None = None
    comparison: Comparison = field(default_factory=Comparison)
    _notices: dict[str, str] = field(default_factory=dict)
    """Why, for each site whose last answer did not count: it is told so, and nobody knows what it still has."""

    def train(self, sites: Sequence[Site], state: PeftState, round_: int, draws: Draws) -> Visit:
        """A visit in which every site trains what it drew."""
        return self._visit(sites, state, round_, draws, last=False)

    def test(self, sites: Sequence[Site], state: PeftState, round_: int) -> Visit:
        """The last visit, in which every site tests the final state."""
        return self._visit(sites, state, round_, {site.name: () for site in sites}, last=True)

    def state(self) -> dict[str, Any]:
        """What a run that goes on later must know, as plain values."""
        return {"notices": dict(self._notices), "answered": self.comparison.state()}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self._notices.clear()
        self._notices.update(state["notices"])
        self.comparison.resume(state["answered"])

    def _visit(self, sites: Sequence[Site], state: PeftState, round_: int, draws: Draws, *, last: bool) -> Visit:
        began = time.monotonic()
        portions = self._portions(sites, state, round_, draws, last=last)
        there = [site for site in sites if site.node != ABSENT]
        if self.private and not last:
            self.private.ask(site.name for site in there)
        requests = {site.node: portions[site.name].request for site in there}
        answers = {ABSENT: Answer(None, "has not come back since the run was interrupted")}
        answers |= self.courier.ask("final" if last else "rounds", wire.VISIT, requests, group=str(round_))
        vetted, refused = self._judged(sites, answers, portions, state, round_, last=last)
        for site in sites:
            self._remember(site.name, refused.get(site.name))
        records = tuple(
            _record(round_, site, answers[site.node], vetted.get(site.name), refused.get(site.name), draws[site.name])
            for site in sites
        )
        counted = {name: answer for name, answer in vetted.items() if name not in refused}
        return Visit(records, counted, time.monotonic() - began)

    def _judged(
        self,
        sites: Sequence[Site],
        answers: Mapping[int, Answer],
        portions: Mapping[str, _Portion],
        state: PeftState,
        round_: int,
        *,
        last: bool,
    ) -> tuple[dict[str, Vetted], dict[str, str]]:
        """Answers that are sound by themselves, and why some of all do not count."""
        vetted, refused = {}, {}
        for site in sites:
            expected = self._expected(site, portions[site.name], round_, last=last)
            try:
                vetted[site.name] = self._vetted(answers[site.node], expected, state)
            except Quarantined as reason:
                refused[site.name] = str(reason)
        if not last:
            sent = {name: portions[name].untrained_hash for name in vetted}
            refused |= self.comparison.refused(round_, vetted, sent)
        return vetted, refused

    def _expected(self, site: Site, portion: _Portion, round_: int, *, last: bool) -> Expected:
        return Expected(
            site=site.name,
            samples=site.samples,
            round=round_,
            last=last,
            task=self.federation.task,
            contract=portion.contract,
            sent=portion.untrained,
            private=site.private,
            tells_loss=not site.private and not (self.private and self.private.level.noise_at == "site"),
        )

    def _vetted(self, answer: Answer, expected: Expected, state: PeftState) -> Vetted:
        vetted = vet_visit(answer, expected)
        if self.private and vetted.state is not None:
            self.private.vet(state, vetted.state, vetted.reply.within)
        return vetted

    def _remember(self, site: str, reason: str | None) -> None:
        """What the next message to ``site`` depends on."""
        if reason is None:
            self.distribution.acknowledged(site)
            self._notices.pop(site, None)
        else:
            self.distribution.forget(site)
            self._notices[site] = safe_reason(reason)

    def _portions(
        self, sites: Sequence[Site], state: PeftState, round_: int, draws: Draws, *, last: bool
    ) -> dict[str, _Portion]:
        """By site; sites that train and are sent the same share one, so that it is encoded once."""
        state_hash = state.hash() if self.distribution.rotation else ""
        made: dict[tuple[tuple[str, ...], tuple[str, ...]], _Portion] = {}
        portions = {}
        for site in sites:
            key = draws[site.name], self.distribution.missing(site.name)
            if key not in made:
                made[key] = self._portion(state, state_hash, round_, *key, last=last)
            notice = self._notices.get(site.name)
            portions[site.name] = self._for_unheard(made[key], notice) if notice else made[key]
        return portions

    def _for_unheard(self, portion: _Portion, notice: str) -> _Portion:
        """For a site that is told why its last answer did not count, and may have lost the classes agreed on."""
        request = replace(portion.request, notice=notice)
        if self.federation.task.agrees:
            request = replace(request, classes="\n".join(self.federation.classes))
        return replace(portion, request=request)

    def _portion(
        self,
        state: PeftState,
        state_hash: str,
        round_: int,
        train: tuple[str, ...],
        sends: tuple[str, ...],
        *,
        last: bool,
    ) -> _Portion:
        rotation, contract = self.distribution.rotation, self.federation.contract
        answered = rotation.part(contract.manifest, train)
        request = VisitRequest(
            run=self.run,
            round=round_,
            last=last,
            fingerprint=self.federation.fingerprint,
            proximal=0.0 if last else self.proximal,
            state=state.only(rotation.part(contract.manifest, sends)).encode(),
            train=rotation.write(train),
            sends=rotation.write(sends),
            state_hash=state_hash,
            clip=self.private.asked_clip if self.private and not last else 0.0,
        )
        untrained = state.only(answered)
        return _Portion(request, contract.over(answered), untrained, untrained.hash())


def _record(
    round_: int, site: Site, answer: Answer, vetted: Vetted | None, refused: str | None, drawn: tuple[str, ...]
) -> SiteRecord:
    """Of an answer that is sound by itself all that it says, whether or not it counts: what it spent is spent."""
    if vetted is None:
        return SiteRecord(round_, site.name, refused or "", down=answer.down, up=answer.up, drawn=drawn)
    reply = vetted.reply
    return SiteRecord(
        round=round_,
        site=site.name,
        outcome=refused or (EVALUATED if vetted.state is None else ACCEPTED),
        samples=reply.samples,
        steps=reply.steps,
        loss=reply.loss,
        scores=vetted.scores,
        down=answer.down,
        up=answer.up,
        seconds=reply.seconds,
        drawn=drawn,
        private=reply.private,
        epsilon=reply.epsilon,
        delta=reply.delta,
        withheld=vetted.withheld,
    )
