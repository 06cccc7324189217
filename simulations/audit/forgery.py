"""An adapter of the server's own making in one learner, used on a site and scored."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from simulations.audit.adapter_tap import AdapterTap, first_taps
from simulations.audit.crafted import AdapterBins
from simulations.audit.curious import Row, images_of, repeats_of, scored, table_row
from simulations.audit.finding import Figure
from simulations.audit.image_scores import mean_scores
from simulations.audit.image_search import Search
from simulations.audit.mosaic import image_of_tokens
from simulations.audit.scene import Scene, Sent
from simulations.audit.site_update import Update
from simulations.audit.strip import strip
from simulations.audit.token_places import TokenPlaces

QUIET, LOUD = 1e-8, 100.0
"""Lengths of the columns behind the bins: gradients below AdamW's epsilon, and gradients that clipping leaves alone."""
_EXACT = 0.02
"""A token is read where what was read lies within this part of the length of a true one."""
STEPS = {"quick": 120, "full": 400}
_RATE, _SMOOTHNESS = 0.03, 0.01


@dataclass(frozen=True)
class Forgery:
    """The best adapter of a learner to put bins into, and what the server knows of the tokens that reach it."""

    scene: Scene
    tap: AdapterTap
    places: TokenPlaces
    tokens: torch.Tensor

    @classmethod
    def of(cls, scene: Scene) -> Forgery | None:
        """Of the first block's adapters the one whose tokens tell best where they were; None without adapters."""
        learner = scene.learner()
        with torch.no_grad():
            seen = [(tap, tap.tokens(learner, scene.public)) for tap in first_taps(learner, set(scene.names))]
        forgeries = [cls(scene, tap, TokenPlaces.of(tokens), tokens) for tap, tokens in seen]
        return max(forgeries, key=lambda one: one.places.share_found(one.tokens), default=None)

    def bins(self, batch: int, lift: float) -> AdapterBins:
        """Aimed at steps with ``batch`` images."""
        several = max(1, len(self.tokens) // batch)
        together = self.tokens[: several * batch].reshape(several, -1, self.tokens.shape[-1])
        return AdapterBins.aim(self.tap, together, self.places, lift, self.scene.run.seed)

    def read(self, bins: AdapterBins, update: Update, victims: torch.Tensor) -> tuple[torch.Tensor, int]:
        """The image [1, 3, S, S] that the tokens in ``update`` make, and how many of them are truly the victims'."""
        scene, learner = self.scene, self.scene.learner()
        found = bins.read(update)
        with torch.no_grad():
            true = self.tap.tokens(learner, scene.victims(victims).images).flatten(0, 1).double()
        error = torch.cdist(true, found).min(1).values / true.norm(dim=1) if len(found) else torch.ones(len(true))
        search = Search(STEPS[scene.run.effort], _RATE, _SMOOTHNESS)
        image = image_of_tokens(learner, self.tap, found, self.places, scene.span.mean[None], search)
        return image, int((error < _EXACT).sum())


def attacked(forgery: Forgery, bins: AdapterBins, state: Update, batch: int, sent: Sent) -> tuple[Row, Figure]:
    """Scores of the bins in ``state``, a row of :data:`simulations.audit.malicious.COLUMNS`, and a picture."""
    scene = forgery.scene
    repeats = repeats_of(scene, batch)
    images, read = zip(
        *(forgery.read(bins, scene.observe(places, sent, state), places) for places in repeats), strict=True
    )
    scores = mean_scores([scored(scene, image, places) for image, places in zip(images, repeats, strict=True)])
    name, *rest = table_row("bins in an adapter", batch, sent, scores, scene)
    row = (name, batch, sent, round(sum(read) / len(read)), *rest[2:])
    caption = f"Crafted adapter, {images_of(batch)}, {sent}. Above the originals, below what was rebuilt."
    shown = [torch.cat([scene.victims(places).images[:1] for places in repeats]), torch.cat(images)]
    return row, Figure(caption, strip(shown))
