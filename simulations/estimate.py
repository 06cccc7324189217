"""What a run will move over the wire, from the same messages and the same encoding that the run itself uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count

import numpy as np

from clients.outgoing import noises_sites
from fedmedpeft.backbones import load_record
from fedmedpeft.data.source import SPLITS
from fedmedpeft.exchange import (
    AnswersReply,
    AnswersRequest,
    EncodedState,
    JoinReply,
    JoinRequest,
    PeftState,
    ReferenceReply,
    ReferenceRequest,
    Scores,
    VisitReply,
    VisitRequest,
)
from fedmedpeft.exchange import flower as wire
from fedmedpeft.exchange.manifest import PARTS, Part
from fedmedpeft.exchange.messages import Reference
from fedmedpeft.exchange.peft_state import Vector
from fedmedpeft.learner import learner_skeleton
from fedmedpeft.starting_state import given_classes
from server.distribution import Distribution, Draws, groups_of
from server.joining import Site, exchanged
from server.references import wanted_references
from server.rounds import sample_sites
from server.run_directory import run_name
from server.strategies import build_strategy, fewest_sites, proximal_of
from simulations.preflight import Federation, check_strategy, planned_privacy, planned_task, site_answers

Groups = tuple[str, ...]

_HASH = "0" * 64


@dataclass(frozen=True)
class Transfer:
    """Bytes in both directions, and how many PEFT states are among them."""

    down: int = 0
    up: int = 0
    states: int = 0

    def __add__(self, other: Transfer) -> Transfer:
        return Transfer(self.down + other.down, self.up + other.up, self.states + other.states)


@dataclass(frozen=True)
class Estimate:
    """What a run moves.

    Args:
        sites: how many.
        rounds: federated ones.
        payload: bytes of values in the whole PEFT state.
        round_payload: at most as many of them go up from a site in a round; fewer than ``payload`` with a rotation.
        phases: answers (where the sites agree on classes), join, references, rounds (all of them), final.
        full_bytes: as many states of full fine-tuning.
    """

    sites: int
    rounds: int
    payload: int
    round_payload: int
    phases: dict[str, Transfer]
    full_bytes: int

    @property
    def total(self) -> Transfer:
        return sum(self.phases.values(), Transfer())

    @property
    def times_less(self) -> float:
        return self.full_bytes / (self.total.down + self.total.up)


def estimate(federation: Federation) -> Estimate:
    """Count every message of the run, with zeros for values; ``config`` decides how many there are.

    Raises:
        ConfigError: as the method, the backbone and the strategy do.
    """
    messages = _Messages(federation)
    config = federation.config
    phases = {"answers": messages.answers()} if messages.asks_for_answers else {}
    phases |= {"join": messages.join(), "references": Transfer(), "rounds": Transfer(), "final": Transfer()}
    for kind in wanted_references(config):
        phases["references"] += messages.reference(kind)
    if config.mode == "federated":
        for round_ in range(1, config.rounds + 1):
            phases["rounds"] += messages.train(round_)
        phases["final"] = messages.test()
    full = learner_skeleton(messages.record, "full", messages.task.classes, config.task).manifest().nbytes
    states = sum(transfer.states for transfer in phases.values())
    rounds = config.rounds if config.mode == "federated" else 0
    whole, of_round = messages.manifest, messages.distribution.rotation.largest_part(messages.manifest)
    return Estimate(len(messages.sites), rounds, whole.nbytes, of_round.nbytes, phases, states * full)


class _Messages:
    """The messages of one run, measured."""

    def __init__(self, federation: Federation) -> None:
        config, self.counts = federation.config, federation.partition.counts()
        self.config, self.synthetic = config, federation.source.synthetic
        self.federation, self.task = federation, planned_task(federation)
        self.record = load_record(config.backbone, revision=config.backbone_revision, image_size=config.image_size)
        self.manifest, rotation = exchanged(config, self.record, self.task.classes)
        check_strategy(federation, rotation)
        self.distribution = Distribution(rotation, config.seed)
        self.run = config.run_name or run_name(config, datetime.now())
        self.strategy = build_strategy(config.strategy)
        # Flower sends equal parts of a message once, and two evaluations are never equal in a run.
        self._losses = count()
        self._states: dict[Groups, EncodedState] = {}
        names = federation.partition.sites
        self.sites = [
            Site(i, name, self._samples(i), {}, self.synthetic, planned_privacy(federation, name))
            for i, name in enumerate(names)
        ]

    @property
    def asks_for_answers(self) -> bool:
        return self.task.agrees and given_classes(self.config) is None

    def answers(self) -> Transfer:
        """Which classes there are to agree on."""
        total, request = Transfer(), _size(AnswersRequest(self.run))
        for site in self.sites:
            counts = {} if site.private else site_answers(self.federation, site.name)
            total += Transfer(request, _size(AnswersReply(site.name, counts)))
        return total

    def join(self) -> Transfer:
        total, classes = Transfer(), "\n".join(self.task.classes)
        for site in self.sites:
            sends = site.node == 0 and self.config.mode == "federated"
            reply = JoinReply(
                site=site.name,
                classes="" if self.task.agrees else classes,
                synthetic=self.synthetic,
                fingerprint=_HASH,
                manifest_hash=_HASH,
                state_hash=_HASH,
                samples=dict(site.samples),
                state=self._state(tuple(self.distribution.rotation.groups)) if sends else None,
                partition_hash=_HASH,
                shares_images=self.federation.source.table.splits_share_patients or None,
                private=site.private,
            )
            request = JoinRequest(self.run, sends, classes if self.task.agrees else None)
            total += Transfer(_size(request), _size(reply), int(sends))
        return total

    def reference(self, kind: Reference) -> Transfer:
        """Sites with privacy train none, and without their data there is nothing to pool."""
        total, public = Transfer(), [site for site in self.sites if not site.private]
        if kind == "pooled" and len(public) < len(self.sites):
            return total
        for site in public if kind == "local-only" else public[:1]:
            tests = [site] if kind == "local-only" else self.sites
            names = ["test"] if kind == "local-only" else [f"test/{tested.name}" for tested in tests]
            scores = {name: self._scores([tested], "test") for name, tested in zip(names, tests, strict=True)}
            if kind == "pooled" or not self.task.size_matters:
                scores["union"] = self._scores(self.sites, "test")
            request = ReferenceRequest(kind, self.run if self.task.agrees else None)
            total += Transfer(_size(request), _size(ReferenceReply(site.name, kind, scores, 0.0)))
        return total

    def train(self, round_: int) -> Transfer:
        """The visits of one round, in which nobody fails."""
        names = [site.name for site in self._asked(round_)]
        draws = self.distribution.draws(names, round_)
        self.distribution.going_back(draws)
        total = self._visits(self._asked(round_), round_, draws, last=False)
        self.distribution.changed(round_, groups_of(self.distribution.rotation, draws))
        return total

    def test(self) -> Transfer:
        """The last visit."""
        return self._visits(self.sites, self.config.rounds + 1, {site.name: () for site in self.sites}, last=True)

    def _asked(self, round_: int) -> list[Site]:
        config = self.config
        least = max(config.min_sites, fewest_sites(self.strategy))
        return sample_sites(self.sites, config.sampling_fraction, least, config.seed, round_)

    def _visits(self, sites: Sequence[Site], round_: int, draws: Draws, *, last: bool) -> Transfer:
        total = Transfer()
        sizes: dict[tuple[Groups, Groups], int] = {}
        for site in sites:
            train, sends = draws[site.name], self.distribution.missing(site.name)
            if (train, sends) not in sizes:
                sizes[train, sends] = _size(self._request(round_, train, sends, last=last))
            reply = VisitReply(
                site=site.name,
                round=round_,
                before=self._evaluations(site, last=last),
                samples=site.samples["train"],
                loss=math.nan,
                steps=0 if last else self.config.local_steps,
                seconds=0.0,
                state=None if last else self._state(train),
                private=site.private,
                epsilon=0.0 if site.private else None,
                delta=0.0 if site.private else None,
            )
            total += Transfer(sizes[train, sends], _size(reply), 1 if last else 2)
            self.distribution.acknowledged(site.name)
        return total

    def _request(self, round_: int, train: Groups, sends: Groups, *, last: bool) -> VisitRequest:
        rotation = self.distribution.rotation
        return VisitRequest(
            run=self.run,
            round=round_,
            last=last,
            fingerprint=_HASH,
            proximal=0.0 if last else proximal_of(self.strategy),
            state=self._state(sends),
            train=rotation.write(train),
            sends=rotation.write(sends),
            state_hash=_HASH if rotation else "",
        )

    def _state(self, groups: Groups) -> EncodedState:
        """Zeros for ``groups`` and all that takes no turns."""
        if groups not in self._states:
            part = self.distribution.rotation.part(self.manifest, groups)
            vectors: dict[Part, Vector] = {p: np.zeros(part.numel(p), np.float32) for p in PARTS if part.numel(p)}
            self._states[groups] = PeftState(part, vectors).encode()
        return self._states[groups]

    def _evaluations(self, site: Site, *, last: bool) -> dict[str, Scores]:
        """What a visit reports: in the last one also the test split, and the site's own fine-tuned model on both."""
        splits = ("val", "test") if last else ("val",)
        scores = {split: self._scores([site], split) for split in splits}
        if last and self.config.personalise_steps and not (site.private or noises_sites(self.config)):
            scores |= {f"own-{split}": self._scores([site], split) for split in splits}
        return scores

    def _samples(self, index: int) -> dict[str, int]:
        return dict(zip(SPLITS, self.counts[index].sum(axis=1).tolist(), strict=True))

    def _scores(self, sites: Sequence[Site], split: str) -> Scores:
        """As of a model that is always right: counts have as many digits as they can have."""
        present = self.counts[[site.node for site in sites], SPLITS.index(split)].sum(axis=0)
        metrics = dict.fromkeys(self.task.metrics, 0.0) if present.sum() else {}
        counts = self.task.ideal_counts(present.tolist())
        return Scores(int(present.sum()), float(next(self._losses)), metrics, counts)


def _size(message: wire.AnyMessage) -> int:
    return wire.wire_bytes(wire.encode(message))
