"""What all inversion attacks share: the victims, what the server knows, and what it gets to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from fedmedpeft.learner import Learner
from simulations.audit.audited import AuditRun
from simulations.audit.crafted import install
from simulations.audit.public_images import Span, public_images
from simulations.audit.site_update import Batch, Update, batch_of, mean_gradient, private_gradient, visit_change

Sent = Literal["one gradient", "one gradient, private", "one AdamW step", "a whole visit"]
"""What leaves the site. A private one is clipped and noised as the run would; AdamW behind it adds nothing to know."""

_CANDIDATES = 100
_MOST_NUMBERS = 60_000_000
"""Of all candidates' gradients together, which lie in memory."""
_FEWEST = 16
_DIRECTIONS = 60


@dataclass(frozen=True)
class Scene:
    """One site under attack.

    Attributes:
        run: the audit.
        names: of the exchanged tensors, all that the server sees.
        public: images [P, 3, S, S] that the server has. span: what they have in common.
        candidates: N images of the site, among which victims are to be told. rows: int64 [N], in its training split.
    """

    run: AuditRun
    names: tuple[str, ...]
    public: torch.Tensor
    span: Span
    candidates: Batch
    rows: torch.Tensor

    @classmethod
    def of(cls, run: AuditRun) -> Scene:
        learner, train = run.fresh(), run.data.train
        manifest = learner.manifest(without=run.config.personal_parts)
        numbers = sum(spec.numel for spec in manifest.tensors)
        many = min(_CANDIDATES, len(train), max(_FEWEST, _MOST_NUMBERS // numbers))
        order = np.random.default_rng(run.seed).permutation(len(train))[:many]
        rows = torch.from_numpy(order)
        public = public_images(run.data, run.seed)
        return cls(
            run,
            tuple(spec.name for spec in manifest.tensors),
            public,
            Span.of(public, _DIRECTIONS),
            batch_of(train, rows),
            rows,
        )

    def places(self, batch: int, number: int) -> torch.Tensor:
        """Which of the candidates are the victims of the ``number``-th attack on a batch of this size, int64 [B]."""
        return torch.arange(batch * number, batch * (number + 1)) % len(self.rows)

    def victims(self, places: torch.Tensor) -> Batch:
        return Batch(self.candidates.images[places], self.candidates.labels[places])

    def learner(self, crafted: Update | None = None) -> Learner:
        """In the state that the server sends: the initial one, with the tensors of ``crafted`` in place."""
        learner = self.run.fresh()
        install(learner, crafted or {})
        return learner

    def observe(self, places: torch.Tensor, sent: Sent, crafted: Update | None = None) -> Update:
        """What the server gets, as a gradient: minus the change, where steps were taken."""
        run, learner = self.run, self.learner(crafted)
        if sent == "one gradient":
            return mean_gradient(learner, self.victims(places), self.names)
        if sent == "one gradient, private":
            assert run.privacy is not None
            return private_gradient(
                learner,
                self.victims(places),
                self.names,
                clip=run.privacy.clip,
                noise_multiplier=run.privacy.noise_multiplier,
                seed=run.seed,
            )
        config = run.config.model_copy(update={"local_steps": 1}) if sent == "one AdamW step" else run.config
        change = visit_change(learner, run.data.train, self.rows[places], config, self.names)
        return {name: -value for name, value in change.items()}
