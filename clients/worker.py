"""The site worker: owns a site's data, its learner and what stays there. DESIGN: the trust boundary of the project.

In simulation it lives in the process that Flower's actors run in; at a hospital the same class serves a daemon. It
answers requests with replies and knows nothing of Flower.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from clients.global_state import kept_state, whole_state
from clients.local_training import scores_of, train_stretch
from clients.references import ReferenceTraining
from clients.run_classes import RunClasses
from clients.site_model import Models, SiteModel
from clients.site_store import SiteStore
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
from fedmedpeft.training import FeatureCache, LocalTrainer, TrainingResult

_MOMENT, _PERSONAL, _OWN = "moment/", "personal/", "own/"


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
        everyone: Callable[[], Sequence[SiteData]] | None = None,
    ) -> None:
        self.config = config
        self.data = data
        self.synthetic = synthetic
        self.store = store
        self.partition_hash = partition_hash
        self.features = features
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

        Raises:
            ContractError: in this run nobody needs to know them.
        """
        task = build_task(self.config.task)
        if not task.agrees or given_classes(self.config) is not None:
            raise ContractError("asks for answers, which this run does not agree on")
        return AnswersReply(self.data.site, frequent_answers(self.data.train.answers or (), task.least))

    def join(self, request: JoinRequest) -> JoinReply:
        """Introduce this site and, where asked, give the initial PEFT state.

        Raises:
            ContractError: classes that can be no run's.
            SiteError: classes that are not this site's, or nothing to learn of them.
        """
        self._enter_run(request.run, request.classes)
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
        )

    def visit(self, request: VisitRequest) -> VisitReply:
        """Evaluate the state that came; unless it is the last visit, train on it and give back the result.

        Raises:
            ContractError: the state breaks the contract, or another field is out of range.
            SiteError: another backbone, a part of a state of which this site lacks the rest, classes that it lacks, or
                training that diverged. Nothing is kept then.
        """
        _check_run(request.run)
        self._enter_run(request.run, request.classes)
        train = self._check(request)
        if request.fingerprint != self.learner.backbone.fingerprint:
            raise SiteError(Refusal.BACKBONE, "the run's backbone has another fingerprint than this site's")
        began = time.perf_counter()
        kept = self.store.load(request.run)
        received = whole_state(request, self.learner.rotation, self.contract, self.initial, kept)
        rotation = self.learner.rotation
        back = frozenset() if rotation.persist or request.last else rotation.resting(train)
        self._enter(received, kept, back)
        trainer = LocalTrainer(self.learner, self.config, proximal=request.proximal, cache=self.features)
        splits = ("val", "test") if request.last else ("val",)
        before = {name: scores_of(trainer.evaluate(self._splits()[name])) for name in splits}
        result, state = None, None
        if request.last:
            before |= self._personalise(request.run, kept)
        else:
            with self.learner.taking_turns(train):
                result = self._train(trainer, request.round, kept)
            self._refuse_divergence()
            state = self.learner.export(rotation.part(self.contract.manifest, train)).encode()
            self._keep(request.run, trainer, received)
        return VisitReply(
            site=self.data.site,
            round=request.round,
            before=before,
            samples=len(self.data.train),
            loss=result.loss if result else math.nan,
            steps=result.steps if result else 0,
            seconds=time.perf_counter() - began,
            state=state,
        )

    def reference(self, request: ReferenceRequest) -> ReferenceReply:
        """Train alone, or on everyone's data, from the initial state for as many samples as the federation sees.

        Raises:
            SiteError: ``pooled`` at a site that cannot see the others' data, or training that diverged.
        """
        self._enter_run(request.run, None)
        training = ReferenceTraining(self.config, self.data, self.model, self.features, self.everyone)
        return training.train(request.kind)

    def _enter_run(self, run: str | None, sent: str | None) -> None:
        """Have the model over the classes of a run, where they are agreed: as sent now, or kept since they were."""
        if not build_task(self.config.task).agrees:
            return
        if run is None:
            raise ContractError("the request does not say for which run")
        _check_run(run)
        self._model = self._models(self._classes.of(run, sent))

    def _check(self, request: VisitRequest) -> tuple[str, ...]:
        """What the server asks for must be something that this run can ask for.

        Returns:
            The groups to train.
        """
        if not 1 <= request.round <= self.config.rounds + request.last:
            raise ContractError(f"round {request.round} is not one of the {self.config.rounds} rounds of this run")
        if not (math.isfinite(request.proximal) and request.proximal >= 0):
            raise ContractError(f"proximal={request.proximal} is not 0 or more")
        rotation = self.learner.rotation
        train, wanted = rotation.read(request.train), 0 if request.last else rotation.count
        if len(train) != wanted:
            raise ContractError(f"asks to train {len(train)} groups of tensors, such a visit trains {wanted}")
        return train

    def _refuse_divergence(self) -> None:
        """All that was trained, personal parts too: what is kept here must not spoil later visits."""
        norm = self.learner.export(self.learner.manifest()).norm()
        if not norm <= self.config.max_norm:
            raise SiteError(Refusal.TRAINING, f"training diverged (norm {norm:.3g}); lower learning-rate")
        if not all(torch.isfinite(tensor).all() for tensor in self.learner.kept().values()):
            raise SiteError(Refusal.TRAINING, "training diverged (statistics are not finite); lower learning-rate")

    def _enter(self, state: PeftState, kept: dict[str, torch.Tensor], back: frozenset[str]) -> None:
        """Put the learner into this site's state: the global one, this site's personal parts and its statistics.

        Personal tensors named in ``back`` go back to the start, as the server lets exchanged ones.
        """
        personal = {name.removeprefix(_PERSONAL): t for name, t in kept.items() if name.startswith(_PERSONAL)}
        self.learner.load(self.initial, state)
        self.learner.load_kept(personal)
        with torch.no_grad():
            for name in personal.keys() - self.learner.kept().keys() - back:
                self.learner.trainables[name].parameter.copy_(personal[name])

    def _train(self, trainer: LocalTrainer, round_: int, kept: dict[str, torch.Tensor]) -> TrainingResult:
        if self.config.keep_momentum:
            moments = {k.removeprefix(_MOMENT): v for k, v in kept.items() if k.startswith(_MOMENT)}
            trainer.load_momentum(moments)
        steps = self.config.local_steps
        purpose, first = f"{self.data.site}/{round_}", (round_ - 1) * steps
        return train_stretch(trainer, self.data.train, steps, purpose, first)

    def _personalise(self, run: str, kept: dict[str, torch.Tensor]) -> dict[str, Scores]:
        """Take a few small steps alone, from the federated state; score the result and keep it here.

        FedAvg followed by local fine-tuning: Collins et al., NeurIPS 2022 (arXiv 2205.13692).
        """
        steps = self.config.personalise_steps
        if not steps:
            return {}
        config = self.config.model_copy(update={"rounds": 1, "local_steps": steps})
        trainer = LocalTrainer(self.learner, config, rate=config.personalise_rate, cache=self.features)
        try:
            train_stretch(trainer, self.data.train, steps, f"{self.data.site}/personalise")
            self._refuse_divergence()
        except SiteError:
            # The federated model's scores are worth having all the same.
            return {}
        own = {name: trainable.parameter for name, trainable in self.learner.trainables.items()} | self.learner.kept()
        self.store.keep(run, kept | {f"{_OWN}{name}": tensor for name, tensor in own.items()})
        return {f"own-{name}": scores_of(trainer.evaluate(self._splits()[name])) for name in ("val", "test")}

    def _keep(self, run: str, trainer: LocalTrainer, received: PeftState) -> None:
        personal = self.learner.kept() | {
            name: trainable.parameter
            for name, trainable in self.learner.trainables.items()
            if set(trainable.owners) & set(self.config.personal_parts)
        }
        moments = trainer.momentum() if self.config.keep_momentum else {}
        stays = {f"{_PERSONAL}{name}": tensor for name, tensor in personal.items()}
        stays |= {f"{_MOMENT}{name}": tensor for name, tensor in moments.items()}
        stays |= kept_state(received, self.learner.rotation)
        if stays:
            self.store.keep(run, stays)

    def _splits(self) -> dict[str, Split]:
        return {"train": self.data.train, "val": self.data.val, "test": self.data.test}


def _check_run(run: str) -> None:
    """A run's name becomes a path here. Raises ContractError where it is no plain name."""
    if not run or run == ".." or Path(run).name != run:
        raise ContractError("the run's name is not a plain name")
