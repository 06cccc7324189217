"""``start-from``: a run whose sites all start from a saved adapter."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedmedpeft.adapter_file import CONFIG_FILE, is_adapter, read_adapter
from fedmedpeft.components import ComponentSpec, ConfigError, parse_composition
from fedmedpeft.config import RunConfig
from fedmedpeft.hf_import import read_hf_lora
from fedmedpeft.learner import HEAD, Learner
from fedmedpeft.methods import METHODS
from fedmedpeft.tasks import build_task

_log = logging.getLogger("fedmedpeft.site")
_SHOWN = 10

Arrays = Mapping[str, npt.NDArray[np.float32]]


def adapter_in(path: Path) -> Path:
    """``path``, or its ``adapter/`` where it is a run.

    Raises:
        ConfigError: there is no adapter.
    """
    for directory in (path, path / "adapter"):
        if is_adapter(directory):
            return directory
    raise ConfigError(
        f"start-from='{path}': no adapter there. Give a run's directory or its adapter/, at every site "
        "(and at the server, where the sites would else agree on classes)."
    )


def given_classes(config: RunConfig) -> tuple[str, ...] | None:
    """Classes that a configuration names where the federation would else agree on them.

    They are those of a list that the task has as an option, or of the adapter to start from where it is of the same
    task: its head is of no use over others.

    Raises:
        ConfigError: the list or the adapter cannot be read.
    """
    task = build_task(config.task)
    given = task.given_classes()
    if given is not None or not config.start_from:
        return given
    directory = adapter_in(Path(config.start_from))
    if not (directory / CONFIG_FILE).is_file():
        return None
    saved = read_adapter(directory).config
    return saved.classes if build_task(saved.task).name == task.name else None


def load_start(learner: Learner, config: RunConfig) -> None:
    """Write the adapter that ``config.start_from`` names into a learner that was just built; nothing where it is empty.

    What the adapter does not hold (parts that stayed at sites, methods that it does not have) starts as without it.

    Raises:
        ConfigError: no adapter there, or one of another backbone, method, option or shape.
    """
    if not config.start_from:
        return
    directory = adapter_in(Path(config.start_from))
    ours = (directory / CONFIG_FILE).is_file()
    tensors = _ours(directory, learner, config) if ours else _hugging_face(directory, learner, config)
    with torch.no_grad():
        for name, values in tensors.items():
            trainable = learner.trainables.get(name)
            if trainable is None or tuple(trainable.parameter.shape) != values.shape:
                raise ConfigError(
                    f"start-from='{directory}': tensor '{name}' of shape {values.shape} does not fit method="
                    f"'{config.method}' on this backbone."
                )
            if not np.isfinite(values).all():
                raise ConfigError(f"start-from='{directory}': tensor '{name}' has values that are not finite.")
            trainable.parameter.copy_(torch.from_numpy(np.array(values)))
    fresh = sorted({t.owner for name, t in learner.trainables.items() if name not in tensors})
    _log.info("Starting from %s%s", directory, f"; new: {', '.join(fresh)}" if fresh else "")


def _ours(directory: Path, learner: Learner, config: RunConfig) -> Arrays:
    saved = read_adapter(directory)
    if saved.config.fingerprint != learner.backbone.fingerprint:
        raise ConfigError(
            f"start-from='{directory}' was trained in a backbone with fingerprint {saved.config.fingerprint[:12]}; "
            f"this one has {learner.backbone.fingerprint[:12]}."
        )
    run, adapter = _options(config.method), _options(saved.config.method)
    # Every method trains the head: the one that trains nothing else adds nothing that could differ.
    differ = [name for name, options in adapter.items() if name != HEAD and run.get(name) != options]
    if differ:
        raise ConfigError(
            f"start-from='{directory}' holds '{saved.config.method}', and the run has method='{config.method}': "
            f"{', '.join(differ)} differ. Give the run method='{saved.config.method}', or add methods to it."
        )
    drawn = [name for name in adapter if METHODS.build(_spec(saved.config.method, name)).draws_unsent]
    if drawn and saved.config.seed != config.seed:
        raise ConfigError(
            f"start-from='{directory}': {', '.join(drawn)} draws from the run's seed what it never sends. Give the run "
            f"seed={saved.config.seed}."
        )
    tensors = dict(saved.state.tensors())
    task = build_task(saved.config.task)
    if (task.name, saved.config.classes) != (learner.task.name, learner.task.classes):
        names, more = saved.config.classes[:_SHOWN], len(saved.config.classes) - _SHOWN
        rest = f" and {more} more" if more > 0 else ""
        _log.warning("The head starts anew: the adapter's classes are %s%s", ", ".join(names) or "none", rest)
        bound = {HEAD, *(name for name in adapter if METHODS.build(_spec(saved.config.method, name)).class_bound)}
        heads = {name for name, trainable in learner.trainables.items() if trainable.owner in bound}
        tensors = {name: values for name, values in tensors.items() if name not in heads}
    return tensors


def _hugging_face(directory: Path, learner: Learner, config: RunConfig) -> Arrays:
    lora = read_hf_lora(directory, learner.backbone)
    fitting = [name for name, options in _options(config.method).items() if lora.fits(ComponentSpec(name), options)]
    if not fitting:
        raise ConfigError(
            f"start-from='{directory}' is a LoRA that method='{config.method}' does not compute. Write "
            f'method="{lora.method()}", with other methods beside it or without.'
        )
    tensors = lora.state(fitting[0])
    missing = [n for n, t in learner.trainables.items() if t.owner == fitting[0] and n not in tensors]
    if missing:
        raise ConfigError(
            f"start-from='{directory}' lacks '{missing[0]}' and {len(missing) - 1} others: it adapts only a part."
        )
    if lora.has_head:
        _log.warning("The head starts anew: a Hugging Face adapter does not say what its classes are")
    return tensors


def _options(method: str) -> dict[str, dict[str, Any]]:
    """Every option of every method in a composition, defaults included."""
    return {spec.name: METHODS.build(spec).options.model_dump() for spec in parse_composition(method)}


def _spec(method: str, name: str) -> ComponentSpec:
    return next(spec for spec in parse_composition(method) if spec.name == name)
