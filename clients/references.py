"""What a federation is compared with: this site alone, or all data in one place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clients.local_training import scores_of, train_stretch
from clients.site_model import SiteModel
from fedmedpeft.config import RunConfig
from fedmedpeft.data.site_data import SiteData, pool
from fedmedpeft.data.split import Split
from fedmedpeft.exchange import ReferenceReply, Refusal, SiteError
from fedmedpeft.exchange.messages import Reference
from fedmedpeft.training import FeatureCache, LocalTrainer


@dataclass(frozen=True)
class ReferenceTraining:
    """References at one site, from the initial state, for as many samples as the federation sees.

    Args:
        config: of the run.
        data: the site's.
        model: what is trained.
        features: frozen features of images seen before.
        everyone: all sites' data, where this process may see it.
    """

    config: RunConfig
    data: SiteData
    model: SiteModel
    features: FeatureCache
    everyone: Callable[[], Sequence[SiteData]] | None

    def train(self, kind: Reference) -> ReferenceReply:
        """One reference, scored.

        Raises:
            SiteError: ``pooled`` at a site that cannot see the others' data, or training that diverged.
        """
        return self._pooled() if kind == "pooled" else self._alone()

    def _alone(self) -> ReferenceReply:
        began = time.perf_counter()
        trainer = self._trainer(self.config)
        self._run(trainer, self.data.train, f"local-only/{self.data.site}")
        scores = {"test": scores_of(trainer.evaluate(self.data.test))}
        if self.everyone and not self.model.learner.task.size_matters:
            scores["union"] = scores_of(trainer.evaluate(pool(self.everyone()).test))
        return ReferenceReply(self.data.site, "local-only", scores, time.perf_counter() - began)

    def _pooled(self) -> ReferenceReply:
        if self.everyone is None:
            raise SiteError(Refusal.CONFIGURATION, "a pooled reference needs all data in one place (simulation only)")
        began = time.perf_counter()
        sites = self.everyone()
        together = pool(sites)
        # One step here sees one batch where a federated step sees one batch per site.
        config = self.config.model_copy(update={"local_steps": self.config.local_steps * len(sites)})
        trainer = self._trainer(config)
        self._run(trainer, together.train, "pooled")
        scores = {f"test/{site.site}": scores_of(trainer.evaluate(site.test)) for site in sites}
        scores["union"] = scores_of(trainer.evaluate(together.test))
        return ReferenceReply(self.data.site, "pooled", scores, time.perf_counter() - began)

    def _trainer(self, config: RunConfig) -> LocalTrainer:
        learner = self.model.learner
        learner.load(self.model.initial)
        learner.load_kept({})
        return LocalTrainer(learner, config, cache=self.features)

    def _run(self, trainer: LocalTrainer, split: Split, purpose: str) -> None:
        """All steps of its configuration; with a rotation in one stretch per round, each with its round's draw."""
        learner, initial, config = self.model.learner, self.model.initial, trainer.config
        rotation, steps = learner.rotation, config.local_steps
        if not rotation:
            train_stretch(trainer, split, config.total_steps, purpose)
            return
        for round_ in range(1, config.rounds + 1):
            groups = rotation.draw(config.seed, round_, self.data.site)
            if not rotation.persist:
                learner.load(initial.only(initial.manifest.only(rotation.resting(groups))))
            with learner.taking_turns(groups):
                train_stretch(trainer, split, steps, f"{purpose}/{round_}", (round_ - 1) * steps)
