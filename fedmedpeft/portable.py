"""Take a run's result anywhere: a saved adapter and its backbone become a model again."""

from __future__ import annotations

import logging
from pathlib import Path

from fedmedpeft.adapter_file import SavedAdapter, read_adapter
from fedmedpeft.backbones import load_backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.learner import Learner, resolve_device
from fedmedpeft.tasks import build_task

_log = logging.getLogger("fedmedpeft")


def load_learner(directory: Path | str, backbone: str | None = None, device: str = "auto") -> Learner:
    """The fine-tuned model of a run, ready to evaluate: uint8 images [B, 3, S, S], and the text of each where the
    backbone reads texts (:class:`fedmedpeft.text.Text`) -> outputs [B, C].

    Parts that stayed personal at the sites are not in the adapter; they start as in a run
    without ``start-from``.

    Args:
        directory: a run's ``adapter/``.
        backbone: name or directory of the backbone; None: the name the run knew it by.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        ConfigError: a damaged or foreign adapter, or a backbone with another fingerprint.

    Example:
        >>> learner = load_learner("runs/lora-phantoms/adapter")  # doctest: +SKIP
        >>> learner(images).argmax(1)  # doctest: +SKIP
    """
    saved = read_adapter(directory)
    learner = restore(saved, backbone, device)
    if saved.config.knowledge:
        _log.warning(
            "The adapter was trained with knowledge='%s' beside each text. Give the model such knowledge too: without "
            "it answers are others than in its run.",
            saved.config.knowledge,
        )
    return learner


def restore(saved: SavedAdapter, backbone: str | None, device: str) -> Learner:
    """:func:`load_learner` of an adapter that was read already."""
    record = saved.config.backbone
    name = backbone or record.name
    frozen = load_backbone(
        name,
        revision="" if backbone else saved.config.backbone_revision,
        image_size=record.architecture.image_size,
        device=resolve_device(device),
    )
    if frozen.fingerprint != saved.config.fingerprint:
        raise ConfigError(
            f"The adapter belongs to a backbone with fingerprint {saved.config.fingerprint[:12]}, but '{name}' has "
            f"{frozen.fingerprint[:12]}. Give the backbone that the run used."
        )
    task = build_task(saved.config.task, saved.config.classes)
    learner = Learner(frozen, saved.config.method, task, saved.config.seed)
    manifest = learner.manifest(without=saved.config.personal)
    if manifest != saved.state.manifest:
        raise ConfigError(
            f"Method '{saved.config.method}' of this version has other tensors than the adapter holds. "
            f"Use the version that wrote it: fedmedpeft {saved.config.fedmedpeft}."
        )
    learner.load(saved.state)
    return learner.eval()
