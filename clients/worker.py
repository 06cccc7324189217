"""The site worker: owns a site's data, its learner and what stays there. DESIGN: the trust boundary of the project.

In simulation it lives in Flower's actors, at a hospital in a daemon. It knows nothing of Flower.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from clients.global_state import whole_state
from clients.inbound import Inbound
from clients.local_training import scores_of
from clients.outgoing import noises_sites, outgoing
from clients.references import ReferenceTraining
from clients.repeated_visits import RepeatedVisits
from clients.request_checks import check_run_name, check_visit
from clients.run_classes import RunClasses
from clients.site_model import Models, SiteModel
from clients.site_privacy import SitePrivacy
from clients.site_store import SiteStore
from clients.site_training import SiteTraining, carried
from fedmedpeft.config import RunConfig
from fedmedpeft.data import DataError
from fedmedpeft.data.site_data import SHARED_IMAGES, SiteData, Split
from fedmedpeft.exchange import (
    AnswersReply,
    AnswersRequest,
    Contract,
    ContractError,
    JoinReply,
    JoinRequest,
    PeftState,
    ReferenceReply,
    ReferenceRequest,
    Refusal,
    Scores,
    SiteError,
    VisitReply,
    VisitRequest,
)
from fedmedpeft.learner import Learner
from fedmedpeft.starting_state import given_classes
from fedmedpeft.tasks import build_task
from fedmedpeft.tasks.answers import frequent_answers
from fedmedpeft.training import FeatureCache, TrainingResult


class SiteWorker:
    """One hospital.

    Args:
        config: the run's configuration, already checked.
        data: this site's images and labels, or questions and answers.
        models: what is trained, by the run's classes.
        synthetic: whether the data is procedural.
        store: what stays here between visits.
        partition_hash: of the partition that gave this site its images.
        features: frozen features of images seen before.
        privacy: whether and how this site trains with differential privacy.
        everyone: all sites' data where this process may see it (simulation), for the union and for ``pooled``.
    """

    def __init__(
        self,
        config: RunConfig,
        data: SiteData,
        models: Models,
        *,
        synthetic: bool,
        store: SiteStore,
        partition_hash: str,
        features: FeatureCache,
        privacy: SitePrivacy,
        everyone: Callable[[], Sequence[SiteData]] | None = None,
    ) -> None:
        self.config = config
        self.data = data
        self.synthetic = synthetic
        self.store = store
        self.partition_hash = partition_hash
        self.features = features
        self.privacy = privacy
        self.everyone = everyone
        self._models = models
        self._classes = RunClasses(config, store)
        self._model: SiteModel | None = None
        task = build_task(config.task).of_data(data.classes)
        if not task.agrees:
            self._model = models(task.classes)

    @property
    def model(self) -> SiteModel:
        """What is trained; where the federation agrees on the classes, only after a request has named the run."""
        if self._model is None:
            raise SiteError(Refusal.CLASSES, "it does not know which run is meant, and so not its classes")
        return self._model

    @property
    def learner(self) -> Learner:
        return self.model.learner

    @property
    def initial(self) -> PeftState:
        return self.model.initial

    @property
    def contract(self) -> Contract:
        return Contract(self.learner.manifest(without=self.config.personal_parts), self.config.max_norm)

    def answers(self, request: AnswersRequest) -> AnswersReply:
        """Name the answers that are frequent among this site's training questions: never of its other splits.

        A site that trains with privacy names none: counts would say of its questions what nobody pays for.

        Raises:
            ContractError: in this run nobody needs to know them.
        """
        task = build_task(self.config.task)
        if not task.agrees or given_classes(self.config) is not None:
            raise ContractError("asks for answers, which this run does not agree on")
        if self.privacy.private:
            return AnswersReply(self.data.site, {})
        return AnswersReply(self.data.site, frequent_answers(self.data.train.answers or (), task.least))

    def join(self, request: JoinRequest) -> JoinReply:
        """Introduce this site and, where asked, give the initial PEFT state.

        Raises:
            ContractError: classes that can be no run's.
            SiteError: classes that are not this site's, nothing to learn of them, or a method that cannot be trained
                with the privacy that this site wants, or paid for.
        """
        check_run_name(request.run)
        self._enter_run(request.run, request.classes)
        self.privacy.check(self.learner)
        self.privacy.check_ledger(request.run)
        try:
            self.learner.task.check(self.data.train)
        except DataError as error:
            raise SiteError(Refusal.DATA, error.public) from error
        self.learner.load(self.initial)
        state = self.learner.export(self.contract.manifest)
        samples = {name: len(split) for name, split in self._splits().items()}
        return JoinReply(
            site=self.data.site,
            classes="" if self.learner.task.agrees else "\n".join(self.learner.task.classes),
            synthetic=self.synthetic,
            fingerprint=self.learner.backbone.fingerprint,
            manifest_hash=self.contract.manifest.hash,
            state_hash=state.hash(),
            samples=samples,
            skipped=dict(self.data.skipped),
            state=state.encode() if request.send_state else None,
            partition_hash=self.partition_hash,
            shares_images=True if SHARED_IMAGES in self.data.notes else None,
            private=self.privacy.private,
        )

    def visit(self, request: VisitRequest) -> VisitReply:
        """Evaluate the state that came; unless it is the last visit, train on it and give back the result.

        The same request gets the same answer once more: :mod:`clients.repeated_visits`.

        Raises:
            ContractError: the state breaks the contract, or another field is out of range.
            SiteError: another backbone, a part of a state of which this site lacks the rest, classes that it lacks, a
                privacy budget that does not allow it, or training that diverged. Nothing is kept then, but what the
                privacy ledger has of training that happened.
        """
        return self.answered(request) or self.visit_anew(request)

    def answered(self, request: VisitRequest) -> VisitReply | None:
        """The answer that ``request`` got before; None where it is new. Raises as :meth:`visit`."""
        self._enter_visit(request)
        return self.repeated.answer(request)

    def visit_anew(self, request: VisitRequest) -> VisitReply:
        """A visit that :meth:`answered` has found to be new."""
        return self._test(request) if request.last else self._train(request)

    @property
    def repeated(self) -> RepeatedVisits:
        """What this site has answered before."""
        return RepeatedVisits(self.config, self.store)

    def _enter_visit(self, request: VisitRequest) -> None:
        """Refuse what this run cannot ask for, or this site cannot do."""
        check_run_name(request.run)
        self._enter_run(request.run, request.classes)
        check_visit(request, self.config, self.learner.rotation)
        if request.fingerprint != self.learner.backbone.fingerprint:
            raise SiteError(Refusal.BACKBONE, "the run's backbone has another fingerprint than this site's")
        self.privacy.check(self.learner)

    def _receive(
        self, request: VisitRequest, training: SiteTraining, back: frozenset[str]
    ) -> tuple[PeftState, dict[str, torch.Tensor]]:
        """Check the state that came and put the learner into it; also, what the site kept for this visit."""
        private = bool(self.privacy.private)
        kept = carried(self.repeated.kept(request), private)
        received = whole_state(request, self.learner.rotation, self.contract, self.initial, kept)
        self._inbound.check(received, request.round, kept, partial(training.reach, private))
        training.enter(received, kept, back)
        return received, kept

    def _train(self, request: VisitRequest) -> VisitReply:
        began = time.perf_counter()
        training, rotation = self._training, self.learner.rotation
        train = rotation.read(request.train)
        back: frozenset[str] = frozenset() if rotation.persist else rotation.resting(train)
        received, kept = self._receive(request, training, back)
        dp = self.privacy.pay(request.run, request.round)
        trainer = training.trainer(request.proximal, dp)
        before = {"val": scores_of(trainer.evaluate(self.data.val))}
        with self.learner.taking_turns(train):
            trainer, result = training.train_within_memory(
                trainer, request.round, kept, partial(training.enter, received, kept, back)
            )
        training.refuse_divergence()
        trained = self.learner.export(rotation.part(self.contract.manifest, train))
        sent, within = outgoing(self.config, request.clip, received, trained, self.privacy.randomness)
        reply = self._reply(request, before, result, sent, within, time.perf_counter() - began)
        remembered = self._inbound.remembered(received, trained, request.round, kept)
        stays = training.staying(trainer, received) | remembered
        self.repeated.keep(request, stays, reply)
        return reply

    def _test(self, request: VisitRequest) -> VisitReply:
        began = time.perf_counter()
        training = self._training
        _, kept = self._receive(request, training, frozenset())
        trainer = training.trainer(request.proximal, None)
        before = {name: scores_of(trainer.evaluate(self._splits()[name])) for name in ("val", "test")}
        own = training.personalise(request.run, kept)
        before |= {} if self.privacy.private or noises_sites(self.config) else own
        return self._reply(request, before, None, None, None, time.perf_counter() - began)

    def _reply(
        self,
        request: VisitRequest,
        before: dict[str, Scores],
        result: TrainingResult | None,
        sent: PeftState | None,
        within: bool | None,
        seconds: float,
    ) -> VisitReply:
        """All that a visit tells the server."""
        spent = self.privacy.spent(request.run)
        return VisitReply(
            site=self.data.site,
            round=request.round,
            before=before,
            samples=len(self.data.train),
            loss=result.loss if result and not noises_sites(self.config) else math.nan,
            steps=result.steps if result else 0,
            seconds=seconds,
            state=sent.encode() if sent else None,
            private=self.privacy.private,
            epsilon=spent.epsilon if spent else None,
            delta=spent.delta if spent else None,
            within=within,
        )

    def reference(self, request: ReferenceRequest) -> ReferenceReply:
        """Train alone, or on everyone's data, from the initial state for as many samples as the federation sees.

        Raises:
            SiteError: ``pooled`` at a site that cannot see the others' data, a site that trains with privacy, or
                training that diverged.
        """
        self._enter_run(request.run, None)
        if self.privacy.private or noises_sites(self.config):
            raise SiteError(Refusal.PRIVACY, "its scores would be those of training without privacy")
        return ReferenceTraining(self.config, self.data, self.model, self.features, self.everyone).train(request.kind)

    @property
    def _training(self) -> SiteTraining:
        return SiteTraining(self.config, self.data, self.model, self.store, self.features)

    @property
    def _inbound(self) -> Inbound:
        return Inbound(self.config.inbound_factor, self.initial)

    def _enter_run(self, run: str | None, sent: str | None) -> None:
        """Have the model over the classes of a run, where they are agreed: as sent now, or kept since they were."""
        if not build_task(self.config.task).agrees:
            return
        if run is None:
            raise ContractError("the request does not say for which run")
        check_run_name(run)
        self._model = self._models(self._classes.of(run, sent))

    def _splits(self) -> dict[str, Split]:
        return {"train": self.data.train, "val": self.data.val, "test": self.data.test}
