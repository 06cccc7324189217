"""One round of visits: what each site is sent, what it answers, and which answers count."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedmedpeft.exchange import Contract, PeftState, Scores, VisitRequest
from fedmedpeft.exchange import flower as wire
from server.client_privacy import ClientPrivacy
from server.courier import Answer, Courier
from server.distribution import Distribution, Draws
from server.joining import Federation, Site
from server.quarantine import Expected, Quarantined, Vetted, vet_visit
from server.records import SiteRecord

ACCEPTED, EVALUATED = "accepted", "evaluated"


@dataclass(frozen=True)
class Visit:
    """One round of visits: every site's record, and the answers that count, by site."""

    records: tuple[SiteRecord, ...]
    vetted: Mapping[str, Vetted]
    seconds: float

    def scores(self, split: str) -> dict[str, Scores]:
        """By site, of the state that was sent."""
        return {site: vetted.scores[split] for site, vetted in self.vetted.items() if split in vetted.scores}


@dataclass(frozen=True)
class _Portion:
    """One request, the contract of its answers, and the hash of an answer that was not trained."""

    request: VisitRequest
    contract: Contract
    untrained: str


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
    """

    run: str
    federation: Federation
    distribution: Distribution
    courier: Courier
    proximal: float
    private: ClientPrivacy | None = None
    _unheard: set[str] = field(default_factory=set)
    """Sites whose last answer did not count: nobody knows what they still have."""

    def train(self, sites: Sequence[Site], state: PeftState, round_: int, draws: Draws) -> Visit:
        """A visit in which every site trains what it drew."""
        return self._visit(sites, state, round_, draws, last=False)

    def test(self, sites: Sequence[Site], state: PeftState, round_: int) -> Visit:
        """The last visit, in which every site tests the final state."""
        return self._visit(sites, state, round_, {site.name: () for site in sites}, last=True)

    def _visit(self, sites: Sequence[Site], state: PeftState, round_: int, draws: Draws, *, last: bool) -> Visit:
        began = time.monotonic()
        portions = self._portions(sites, state, round_, draws, last=last)
        if self.private and not last:
            self.private.ask(portions)
        requests = {site.node: portions[site.name].request for site in sites}
        answers = self.courier.ask("final" if last else "rounds", wire.VISIT, requests, group=str(round_))
        records, vetted = [], {}
        for site in sites:
            answer, portion, drawn = answers[site.node], portions[site.name], draws[site.name]
            expected = Expected(
                site=site.name,
                samples=site.samples,
                round=round_,
                last=last,
                task=self.federation.task,
                contract=portion.contract,
                sent_hash=portion.untrained,
                private=site.private,
                tells_loss=not site.private and not (self.private and self.private.level.noise_at == "site"),
            )
            try:
                vetted[site.name] = self._vetted(answer, expected, state)
                self.distribution.acknowledged(site.name)
                self._unheard.discard(site.name)
                records.append(_record(round_, site, answer, vetted[site.name], drawn))
            except Quarantined as reason:
                self.distribution.forget(site.name)
                self._unheard.add(site.name)
                records.append(SiteRecord(round_, site.name, str(reason), down=answer.down, up=answer.up, drawn=drawn))
        return Visit(tuple(records), vetted, time.monotonic() - began)

    def _vetted(self, answer: Answer, expected: Expected, state: PeftState) -> Vetted:
        vetted = vet_visit(answer, expected)
        if self.private and vetted.state is not None:
            self.private.vet(state, vetted.state, vetted.reply.within)
        return vetted

    def _portions(
        self, sites: Sequence[Site], state: PeftState, round_: int, draws: Draws, *, last: bool
    ) -> dict[str, _Portion]:
        """By site; sites that train and are sent the same share one, so that it is encoded once."""
        state_hash = state.hash() if self.distribution.rotation else ""
        made: dict[tuple[tuple[str, ...], tuple[str, ...], bool], _Portion] = {}
        portions = {}
        for site in sites:
            train, sends = draws[site.name], self.distribution.missing(site.name)
            anew = self.federation.task.agrees and site.name in self._unheard
            if (train, sends, anew) not in made:
                portion = self._portion(state, state_hash, round_, train, sends, last=last)
                made[train, sends, anew] = self._with_classes(portion) if anew else portion
            portions[site.name] = made[train, sends, anew]
        return portions

    def _with_classes(self, portion: _Portion) -> _Portion:
        """For a site that may have lost the classes that were agreed on."""
        classes = "\n".join(self.federation.classes)
        return replace(portion, request=replace(portion.request, classes=classes))

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
        return _Portion(request, contract.over(answered), state.only(answered).hash())


def _record(round_: int, site: Site, answer: Answer, vetted: Vetted, drawn: tuple[str, ...]) -> SiteRecord:
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
        drawn=drawn,
        private=reply.private,
        epsilon=reply.epsilon,
        delta=reply.delta,
    )
