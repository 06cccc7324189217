"""A saved adapter on data: at every site, and on all images together."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fedmedpeft.adapter_file import CONFIG_FILE, read_adapter
from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.data import DataError
from fedmedpeft.data.site_data import Split, load_site
from fedmedpeft.learner import Learner
from fedmedpeft.portable import load_learner
from fedmedpeft.tasks import Evaluation
from simulations.preflight import Federation

Kept = Literal["nothing", "personal", "own"]
"""Which of a site's tensors replace the federated ones: none, the parts that were never exchanged, or all of the site's
own model, fine-tuned after the last round."""

_BATCH = 64


@dataclass(frozen=True)
class SavedRun:
    """A run's directory (None for an adapter on its own) and its adapter's."""

    directory: Path | None
    adapter: Path

    @classmethod
    def find(cls, path: Path) -> SavedRun:
        """``path`` is the one or the other.

        Raises:
            ConfigError: it is neither.
        """
        path = path.absolute()
        adapter = path if (path / CONFIG_FILE).is_file() else path / "adapter"
        if not (adapter / CONFIG_FILE).is_file():
            raise ConfigError(f"'{path}' is neither a run with an adapter nor an adapter: it has no {CONFIG_FILE}.")
        run = adapter.parent
        return cls(run if (run / "config.toml").is_file() else None, adapter)

    def config(self) -> RunConfig:
        """The configuration of the run; the defaults for an adapter on its own. Raises ConfigError where damaged."""
        if self.directory is None:
            return RunConfig()
        path = self.directory / "config.toml"
        try:
            return RunConfig.from_mapping(tomllib.loads(path.read_text(encoding="utf-8"))["config"])
        except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
            raise ConfigError(
                f"'{path}' is not a run's configuration ({error}). Copy adapter/ elsewhere and give --data with it."
            ) from None

    def personal_of_adapter(self) -> tuple[str, ...]:
        """The parts that the adapter does not hold. Raises ConfigError where it cannot be read."""
        return read_adapter(self.adapter).config.personal

    def kept(self, site: str, kind: Kept) -> dict[str, torch.Tensor]:
        """What stayed at ``site`` by name of the parameter; empty where nothing of this kind is here."""
        path = self.directory / "sites" / f"{site}.safetensors" if self.directory else None
        if path is None or not path.is_file():
            return {}
        try:
            kept = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"'{path}' cannot be read ({error}). Evaluate the shared model.") from None
        prefix = f"{kind}/"
        return {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}


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
    general = {name: trainable.parameter.detach().clone() for name, trainable in learner.trainables.items()}
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


@torch.no_grad()
def _put(learner: Learner, values: dict[str, torch.Tensor]) -> None:
    for name, value in values.items():
        trainable = learner.trainables.get(name)
        if trainable is None or trainable.parameter.shape != value.shape:
            raise ConfigError(
                f"What stayed at the site has '{name}' of shape {tuple(value.shape)}, which the adapter's model lacks. "
                "Evaluate the shared model."
            )
        trainable.parameter.copy_(value)


@torch.no_grad()
def _logits(learner: Learner, split: Split) -> torch.Tensor:
    learner.eval()
    chunks = [learner(images).cpu() for images in split.images.split(_BATCH)] if len(split) else []
    return torch.cat([torch.zeros(0, learner.task.outputs), *chunks])
