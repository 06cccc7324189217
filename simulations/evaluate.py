"""A saved adapter on data: at every site, and on all images together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from fedmedpeft.adapter_file import read_adapter
from fedmedpeft.components import ConfigError
from fedmedpeft.data.site_data import load_site
from fedmedpeft.data.split import Split, join
from fedmedpeft.learner import Learner
from fedmedpeft.portable import restore
from fedmedpeft.tasks import Evaluation, RowTask, Task
from fedmedpeft.tasks.reading import check_reading, text_reader
from fedmedpeft.training import LearnerPredictor
from simulations.preflight import Federation
from simulations.saved_run import Kept, SavedRun


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
        ConfigError: another backbone than the adapter's, data of another task, or a damaged file.
        DataError: other classes than the adapter's, or data that cannot be used.
    """
    learner = restore(read_adapter(run.adapter), backbone, device)
    task, predictor = learner.task, LearnerPredictor(learner)
    config = federation.config.model_copy(update={"task": str(task.spec)})
    check_reading(config, federation.source, learner.backbone)
    texts = text_reader(config, learner.backbone)
    preprocessing = learner.backbone.record.preprocessing
    general = {name: tensor.detach().clone() for name, tensor in _values(learner).items()}
    results, scored = [], []
    for site in federation.partition.sites:
        data = load_site(
            federation.source,
            federation.partition,
            site,
            image_size=preprocessing.image_size,
            interpolation=preprocessing.interpolation,
            texts=texts,
        )
        own = run.kept(site, kept)
        _put(learner, general | own)
        scored.append(_scored(predictor, task.align(getattr(data, split), data.classes)))
        results.append(SiteEvaluation(site, scored[-1].evaluation, bool(own), sum(data.skipped.values())))
    union = _union(task, scored)
    any_own, skipped = any(result.kept for result in results), sum(result.skipped for result in results)
    return [*results, SiteEvaluation("union", union, any_own, skipped)]


@dataclass(frozen=True)
class _Scored:
    """A split of one site without its pixels, its evaluation, and its outputs where a task has them row by row."""

    split: Split
    evaluation: Evaluation
    outputs: torch.Tensor | None


@torch.no_grad()
def _scored(predictor: LearnerPredictor, split: Split) -> _Scored:
    predictor.learner.eval()
    task, words = predictor.learner.task, replace(split, images=split.images[:0], text=None, knowledge=None)
    if not isinstance(task, RowTask):
        return _Scored(words, predictor.evaluate(split), None)
    outputs = task.all_outputs(predictor, split)
    return _Scored(words, task.score(outputs, split), outputs)


def _union(task: Task, parts: Sequence[_Scored]) -> Evaluation:
    """All sites as one: from outputs where there are some, else from counts."""
    if isinstance(task, RowTask):
        outputs = [part.outputs for part in parts if part.outputs is not None]
        return task.score(torch.cat(outputs), join([part.split for part in parts]))
    found = [part.evaluation for part in parts if part.evaluation.samples]
    samples = sum(evaluation.samples for evaluation in found)
    counts = tuple(sum(column) for column in zip(*(part.evaluation.counts for part in parts), strict=True))
    loss = sum(evaluation.samples * evaluation.loss for evaluation in found) / samples if samples else math.nan
    return Evaluation(samples, loss, task.metrics_of_counts(counts) if samples else {}, counts)


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
