"""A saved adapter on data: at every site, and on all images together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedmedpeft.components import ConfigError
from fedmedpeft.data import DataError
from fedmedpeft.data.site_data import Split, load_site
from fedmedpeft.learner import Learner
from fedmedpeft.portable import load_learner
from fedmedpeft.tasks import Evaluation
from simulations.preflight import Federation
from simulations.saved_run import Kept, SavedRun

_BATCH = 64


@dataclass(frozen=True)
class SiteEvaluation:
    """One site, or ``union``. ``kept``: tensors that stayed at the site were put in."""

    site: str
    evaluation: Evaluation
    kept: bool
    skipped: int


def evaluate_run(
    run: SavedRun, federation: Federation, *, split: str, backbone: str | None, device: str, kept: Kept
) -> list[SiteEvaluation]:
    """Each site's ``split`` in the partition's order, then the union of all, on scores rather than counts.

    Args:
        kept: what of each site to put in where it exists; the union then joins the predictions of different models.

    Raises:
        ConfigError: another backbone than the adapter's, or a damaged file.
        DataError: other classes than the adapter's, or data that cannot be used.
    """
    learner = load_learner(run.adapter, backbone, device)
    relabel = _relabelling(learner, federation.source.table.classes)
    preprocessing = learner.backbone.record.preprocessing
    general = {name: tensor.detach().clone() for name, tensor in _values(learner).items()}
    results, logits, labels = [], [], []
    for site in federation.partition.sites:
        data = load_site(
            federation.source,
            federation.partition,
            site,
            image_size=preprocessing.image_size,
            interpolation=preprocessing.interpolation,
        )
        own = run.kept(site, kept)
        _put(learner, general | own)
        chosen: Split = getattr(data, split)
        logits.append(_logits(learner, chosen))
        labels.append(relabel[chosen.labels])
        evaluation = learner.task.evaluate(logits[-1], labels[-1])
        results.append(SiteEvaluation(site, evaluation, bool(own), sum(data.skipped.values())))
    union = learner.task.evaluate(torch.cat(logits), torch.cat(labels))
    any_own, skipped = any(result.kept for result in results), sum(result.skipped for result in results)
    return [*results, SiteEvaluation("union", union, any_own, skipped)]


def _relabelling(learner: Learner, classes: Sequence[str]) -> torch.Tensor:
    """Index of each of the data's classes among the adapter's, int64 [C]. The data may have fewer."""
    known = learner.task.classes
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise DataError(
            f"The data has classes that the adapter does not know: {', '.join(unknown)}. It knows: {', '.join(known)}."
        )
    return torch.tensor([known.index(name) for name in classes])


def _values(learner: Learner) -> dict[str, torch.Tensor]:
    """All that differs between sites' models, by name: what is trained, and statistics."""
    return {name: trainable.parameter for name, trainable in learner.trainables.items()} | learner.kept()


@torch.no_grad()
def _put(learner: Learner, values: dict[str, torch.Tensor]) -> None:
    places = _values(learner)
    for name, value in values.items():
        place = places.get(name)
        if place is None or place.shape != value.shape:
            raise ConfigError(
                f"What stayed at the site has '{name}' of shape {tuple(value.shape)}, which the adapter's model lacks. "
                "Evaluate the shared model."
            )
        place.copy_(value)


@torch.no_grad()
def _logits(learner: Learner, split: Split) -> torch.Tensor:
    learner.eval()
    chunks = [learner(images).cpu() for images in split.images.split(_BATCH)] if len(split) else []
    return torch.cat([torch.zeros(0, learner.task.outputs), *chunks])
