"""What a visit does with a site's learner: put it into the site's state, train it, keep what stays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from clients.global_state import from_server, kept_state
from clients.inbound import moved
from clients.local_training import scores_of, train_stretch
from clients.outgoing import noises_sites
from clients.site_model import SiteModel
from clients.site_store import SiteStore
from fedmedpeft.config import RunConfig
from fedmedpeft.data.site_data import SiteData
from fedmedpeft.exchange import PeftState, Refusal, Scores, SiteError
from fedmedpeft.training import FeatureCache, LocalTrainer, TrainingResult
from fedmedpeft.training.private import DpSgd, PrivateTrainer

_log = logging.getLogger("fedmedpeft.site")
_MOMENT, _PERSONAL, _OWN, _PRIVATE = "moment/", "personal/", "own/", "private"


def carried(kept: dict[str, torch.Tensor], private: bool) -> dict[str, torch.Tensor]:
    """What a visit may build on of what the site kept: a ``private`` one on nothing that was trained without noise, as
    where the site's settings have changed during the run."""
    return from_server(kept) if private and not kept.get(_PRIVATE) else kept


@dataclass(frozen=True)
class SiteTraining:
    """Of one site in one run.

    Args:
        config: of the run.
        data: the site's.
        model: what is trained.
        store: what stays here between visits.
        features: frozen features of images seen before.
    """

    config: RunConfig
    data: SiteData
    model: SiteModel
    store: SiteStore
    features: FeatureCache

    def enter(self, state: PeftState, kept: Mapping[str, torch.Tensor], back: frozenset[str]) -> None:
        """Put the learner into this site's state: the global one, this site's personal parts and its statistics.

        Personal tensors named in ``back`` go back to the start, as the server lets exchanged ones.
        """
        learner = self.model.learner
        personal = {name.removeprefix(_PERSONAL): t for name, t in kept.items() if name.startswith(_PERSONAL)}
        learner.load(self.model.initial, state)
        learner.load_kept(personal)
        with torch.no_grad():
            for name in personal.keys() - learner.kept().keys() - back:
                learner.trainables[name].parameter.copy_(personal[name])

    def trainer(self, proximal: float, dp: DpSgd | None) -> LocalTrainer:
        """For one visit; with ``dp`` a private one."""
        learner, config = self.model.learner, self.config
        if dp is None:
            return LocalTrainer(learner, config, proximal=proximal, cache=self.features)
        return PrivateTrainer(learner, config, dp=dp, proximal=proximal, cache=self.features)

    def train(self, trainer: LocalTrainer, round_: int, kept: Mapping[str, torch.Tensor]) -> TrainingResult:
        """The local steps of one round.

        Raises:
            SiteError: the loss is not finite.
        """
        if self.config.keep_momentum:
            trainer.load_momentum({k.removeprefix(_MOMENT): v for k, v in kept.items() if k.startswith(_MOMENT)})
        steps = self.config.local_steps
        purpose, first = f"{self.data.site}/{round_}", (round_ - 1) * steps
        return train_stretch(trainer, self.data.train, steps, purpose, first)

    def train_within_memory(
        self, trainer: LocalTrainer, round_: int, kept: Mapping[str, torch.Tensor], enter: Callable[[], None]
    ) -> tuple[LocalTrainer, TrainingResult]:
        """As :meth:`train`. Private steps that ran out of memory are begun anew with fewer records at once: what was
        drawn for them is thrown away, so that they cost no more than what was paid.

        Args:
            enter: puts the learner back into the state that it was in.

        Returns:
            The trainer that came to the end, too.

        Raises:
            SiteError: as of :meth:`train`.
        """
        while True:
            try:
                return trainer, self.train(trainer, round_, kept)
            except SiteError as error:
                private = trainer if isinstance(trainer, PrivateTrainer) else None
                if error.code is not Refusal.MEMORY or private is None or private.dp.physical_batch == 1:
                    raise
            fewer = private.dp.physical_batch // 2
            _log.warning("Out of memory: trying with %d records at once.", fewer)
            enter()
            trainer = self.trainer(private.proximal, replace(private.dp, physical_batch=fewer))

    def reach(self, private: bool) -> float:
        """How far one round moves the initial state; nothing of it is kept.

        The server learns whether what it sent is within reach, and nobody pays for that: at a ``private`` site it is
        how far steps of noise go.
        """
        learner, initial = self.model.learner, self.model.initial
        rotation = learner.rotation
        self.enter(initial, {}, frozenset())
        with learner.taking_turns(rotation.draw(self.config.seed, 1, self.data.site) if rotation else ()):
            if private:
                PrivateTrainer(learner, self.config, dp=DpSgd(1.0, 1.0)).wander(self.config.local_steps)
            else:
                self.train(self.trainer(0.0, None), 1, {})
        return moved(learner.export(learner.manifest(without=self.config.personal_parts)), (initial,))

    def refuse_divergence(self) -> None:
        """All that was trained, personal parts too: what is kept here must not spoil later visits. Raises SiteError."""
        learner = self.model.learner
        norm = learner.export(learner.manifest()).norm()
        if not norm <= self.config.max_norm:
            # The norm itself is of what the site has trained, before the noise that it may add to what leaves it.
            told = "" if noises_sites(self.config) else f" (norm {norm:.3g})"
            raise SiteError(Refusal.TRAINING, f"training diverged{told}; lower learning-rate")
        if not all(torch.isfinite(tensor).all() for tensor in learner.kept().values()):
            raise SiteError(Refusal.TRAINING, "training diverged (statistics are not finite); lower learning-rate")

    def personalise(self, run: str, kept: dict[str, torch.Tensor]) -> dict[str, Scores]:
        """Take a few small steps alone, from the federated state; score the result and keep it here.

        FedAvg followed by local fine-tuning: Collins et al., NeurIPS 2022 (arXiv 2205.13692). It never leaves the site,
        so it is trained without noise; its scores must not leave a site that trains with privacy.
        """
        steps, learner = self.config.personalise_steps, self.model.learner
        if not steps:
            return {}
        config = self.config.model_copy(update={"rounds": 1, "local_steps": steps})
        trainer = LocalTrainer(learner, config, rate=config.personalise_rate, cache=self.features)
        try:
            train_stretch(trainer, self.data.train, steps, f"{self.data.site}/personalise")
            self.refuse_divergence()
        except SiteError:
            # The federated model's scores are worth having all the same.
            return {}
        own = {name: trainable.parameter for name, trainable in learner.trainables.items()} | learner.kept()
        self.store.keep(run, kept | {f"{_OWN}{name}": tensor for name, tensor in own.items()})
        splits = {"own-val": self.data.val, "own-test": self.data.test}
        return {name: scores_of(trainer.evaluate(split)) for name, split in splits.items()}

    def staying(self, trainer: LocalTrainer, received: PeftState) -> dict[str, torch.Tensor]:
        """What the site's store must have at the next visit."""
        learner = self.model.learner
        personal = learner.kept() | {
            name: trainable.parameter
            for name, trainable in learner.trainables.items()
            if set(trainable.owners) & set(self.config.personal_parts)
        }
        moments = trainer.momentum() if self.config.keep_momentum else {}
        stays = {f"{_PERSONAL}{name}": tensor for name, tensor in personal.items()}
        stays |= {f"{_MOMENT}{name}": tensor for name, tensor in moments.items()}
        stays[_PRIVATE] = torch.tensor(isinstance(trainer, PrivateTrainer))
        return stays | kept_state(received, learner.rotation)
