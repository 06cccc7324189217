"""The site worker: owns a site's data, its learner and what stays there. DESIGN: the trust boundary of the project.

In simulation it lives in the process that Flower's actors run in; at a hospital the same class serves a daemon. It
answers requests with replies and knows nothing of Flower.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from clients.global_state import kept_state, whole_state
from clients.site_store import SiteStore
from fedmedpeft.config import RunConfig
from fedmedpeft.data.site_data import SiteData, Split, pool
from fedmedpeft.exchange import (
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
from fedmedpeft.tasks import Evaluation
from fedmedpeft.training import FeatureCache, LocalTrainer, TrainingResult

_MOMENT, _PERSONAL, _OWN = "moment/", "personal/", "own/"


class SiteWorker:
    """One hospital.

    Args:
        config: the run's configuration, already checked.
        data: this site's images and labels.
        learner: shared in simulation; every request writes this site's state into it first.
        initial: every trainable of ``learner`` as it was built, where all sites start.
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
        learner: Learner,
        initial: PeftState,
        *,
        synthetic: bool,
        store: SiteStore,
        partition_hash: str,
        features: FeatureCache,
        everyone: Callable[[], Sequence[SiteData]] | None = None,
    ) -> None:
        self.config = config
        self.data = data
        self.learner = learner
        self.initial = initial
        self.synthetic = synthetic
        self.store = store
        self.partition_hash = partition_hash
        self.features = features
        self.everyone = everyone
        self.contract = Contract(learner.manifest(without=config.personal_parts), config.max_norm)

    def join(self, request: JoinRequest) -> JoinReply:
        """Introduce this site and, where asked, give the initial PEFT state."""
        self.learner.load(self.initial)
        state = self.learner.export(self.contract.manifest)
        samples = {name: len(split.labels) for name, split in self._splits().items()}
        return JoinReply(
            site=self.data.site,
            classes="\n".join(self.learner.task.classes),
            synthetic=self.synthetic,
            fingerprint=self.learner.backbone.fingerprint,
            manifest_hash=self.contract.manifest.hash,
            state_hash=state.hash(),
            samples=samples,
            skipped=dict(self.data.skipped),
            state=state.encode() if request.send_state else None,
            partition_hash=self.partition_hash,
        )

    def visit(self, request: VisitRequest) -> VisitReply:
        """Evaluate the state that came; unless it is the last visit, train on it and give back the result.

        Raises:
            ContractError: the state breaks the contract, or another field is out of range.
            SiteError: another backbone, a part of a state of which this site lacks the rest, or training that diverged.
                Nothing is kept then.
        """
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
        before = {name: _scores(trainer.evaluate(self._splits()[name])) for name in splits}
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
            samples=len(self.data.train.labels),
            loss=result.loss if result else math.nan,
            steps=result.steps if result else 0,
            seconds=time.perf_counter() - began,
            state=state,
        )

    def reference(self, request: ReferenceRequest) -> ReferenceReply:
        """Train alone, or on everyone's data, from the initial state for as many images as the federation sees.

        Raises:
            SiteError: ``pooled`` at a site that cannot see the others' data, or training that diverged.
        """
        if request.kind == "pooled":
            return self._pooled()
        began = time.perf_counter()
        trainer = self._reference_trainer(self.config)
        self._run_reference(trainer, self.data.train, self.config, f"local-only/{self.data.site}")
        scores = {"test": _scores(trainer.evaluate(self.data.test))}
        if self.everyone:
            scores["union"] = _scores(trainer.evaluate(pool(self.everyone()).test))
        return ReferenceReply(self.data.site, "local-only", scores, time.perf_counter() - began)

    def _pooled(self) -> ReferenceReply:
        if self.everyone is None:
            raise SiteError(Refusal.CONFIGURATION, "a pooled reference needs all data in one place (simulation only)")
        began = time.perf_counter()
        sites = self.everyone()
        together = pool(sites)
        # One step here sees one batch where a federated step sees one batch per site.
        config = self.config.model_copy(update={"local_steps": self.config.local_steps * len(sites)})
        trainer = self._reference_trainer(config)
        self._run_reference(trainer, together.train, config, "pooled")
        scores = {f"test/{site.site}": _scores(trainer.evaluate(site.test)) for site in sites}
        scores["union"] = _scores(trainer.evaluate(together.test))
        return ReferenceReply(self.data.site, "pooled", scores, time.perf_counter() - began)

    def _reference_trainer(self, config: RunConfig) -> LocalTrainer:
        self.learner.load(self.initial)
        self.learner.load_kept({})
        return LocalTrainer(self.learner, config, cache=self.features)

    def _run_reference(self, trainer: LocalTrainer, split: Split, config: RunConfig, purpose: str) -> None:
        """All steps of ``config``; with a rotation in one stretch per round, each with its round's draw."""
        rotation, steps = self.learner.rotation, config.local_steps
        if not rotation:
            self._run(trainer, split, config.total_steps, purpose)
            return
        for round_ in range(1, config.rounds + 1):
            groups = rotation.draw(config.seed, round_, self.data.site)
            if not rotation.persist:
                everything = self.initial.manifest
                self.learner.load(self.initial.only(everything.only(rotation.resting(groups))))
            with self.learner.taking_turns(groups):
                self._run(trainer, split, steps, f"{purpose}/{round_}", (round_ - 1) * steps)

    def _check(self, request: VisitRequest) -> tuple[str, ...]:
        """What the server asks for must be something that this run can ask for: the run's name becomes a path here.

        Returns:
            The groups to train.
        """
        if not request.run or request.run == ".." or Path(request.run).name != request.run:
            raise ContractError("the run's name is not a plain name")
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
        return self._run(trainer, self.data.train, steps, f"{self.data.site}/{round_}", (round_ - 1) * steps)

    def _run(
        self, trainer: LocalTrainer, split: Split, steps: int, purpose: str, first_step: int = 0
    ) -> TrainingResult:
        digest = hashlib.sha256(f"{self.config.seed}/{purpose}".encode()).digest()
        seed = int.from_bytes(digest[:8], "big") >> 1
        result = trainer.train(split, first_step=first_step, steps=steps, seed=seed)
        if not math.isfinite(result.loss):
            raise SiteError(Refusal.TRAINING, "the training loss is not finite; lower learning-rate")
        return result

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
            self._run(trainer, self.data.train, steps, f"{self.data.site}/personalise")
            self._refuse_divergence()
        except SiteError:
            # The federated model's scores are worth having all the same.
            return {}
        own = {name: trainable.parameter for name, trainable in self.learner.trainables.items()} | self.learner.kept()
        self.store.keep(run, kept | {f"{_OWN}{name}": tensor for name, tensor in own.items()})
        return {f"own-{name}": _scores(trainer.evaluate(self._splits()[name])) for name in ("val", "test")}

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


def _scores(evaluation: Evaluation) -> Scores:
    return Scores(
        samples=evaluation.samples,
        loss=evaluation.loss,
        metrics=evaluation.metrics,
        confusion=[int(count) for count in evaluation.confusion.ravel()],
    )
