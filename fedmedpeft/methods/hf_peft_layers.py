"""Layers of Hugging Face peft, built apart from the backbone and put around its frozen modules."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import PeftType
from torch import nn

from fedmedpeft.backbones import Inserted, NotMergeable

ADAPTER = "default"
"""peft's name of the one adapter in a layer; it is a part of every parameter's path there."""

SHARED = "shared"
"""Stands in a key for the place of a parameter that all places have in common."""

_log = logging.getLogger("fedmedpeft.methods")


@contextmanager
def quietly() -> Iterator[None]:
    """What peft warns of goes to the log: most of it is about language models."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        _log.info("%s", warning.message)


class PeftLayer(Inserted):
    """A layer of peft in place of the frozen module ``base``, which it contains."""

    def __init__(self, base: nn.Module, layer: Any, hides: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.layer, self.hides = layer, hides
        layer.base_layer = base

    @property
    def base(self) -> nn.Module:  # type: ignore[override]
        """What it contains. A child of ``layer`` alone: as a second child here, opacus would hook it twice."""
        module: nn.Module = self.layer.base_layer
        return module

    def set_mode(self, training: bool) -> None:
        self.training = training
        self.layer.train(training)
        self.base.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(x)
        return output

    def merged(self, base: nn.Module) -> nn.Module:
        """As peft merges it."""
        layer = copy.deepcopy(self.layer)
        layer.base_layer = copy.deepcopy(base)
        try:
            layer.merge(safe_merge=True)
        except NotImplementedError as error:
            raise NotMergeable(type(self.layer).__name__) from error
        plain: nn.Module = layer.get_base_layer()
        return plain


@dataclass(frozen=True)
class Built:
    """Layers by place, and what they train by canonical key."""

    layers: dict[str, Any]
    trained: dict[str, nn.Parameter]


def build_layers(config: PeftConfig, modules: Mapping[str, nn.Module], seed: int, *, on_meta: bool) -> Built:
    """Put ``config`` around copies of ``modules``, on the CPU, with values that depend on ``seed`` alone.

    Modules on the meta device give layers there; on zeros where peft cannot build them without values.

    Args:
        config: its ``target_modules`` fit all of ``modules``.
        modules: frozen modules by place.
        seed: of everything that peft draws.
        on_meta: whether peft can build it on the meta device.

    Raises:
        ValueError: peft would change ``modules``; for options that do not fit peft also raises others.
    """
    skeleton = all(parameter.is_meta for module in modules.values() for parameter in module.parameters())
    device = "meta" if skeleton and on_meta else "cpu"
    copies = {name: copied(module, device) for name, module in modules.items()}
    root = carrier(copies)
    with quietly(), torch.random.fork_rng(devices=[]), torch.device(device):
        # Not torch.manual_seed, which would seed the accelerators as well.
        torch.default_generator.manual_seed(seed)
        PEFT_TYPE_TO_TUNER_MAPPING[PeftType(config.peft_type)](root, config, ADAPTER)
    layers = {name: root.get_submodule(name) for name in modules}
    if not skeleton:
        _check_frozen(layers, modules)
    built = Built(layers, trained_parameters(layers))
    return _on_meta(built) if skeleton and not on_meta else built


def trained_parameters(layers: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """What peft trains in ``layers``: ``<place>.peft.<path>``, or ``shared.peft.<path>`` where all places have it.

    What only some places have in common is named after the first of them.
    """
    found: dict[int, list[tuple[str, str, nn.Parameter]]] = {}
    for place, layer in layers.items():
        for path, parameter in layer.named_parameters():
            if parameter.requires_grad:
                short = ".".join(part for part in path.split(".") if part != ADAPTER)
                found.setdefault(id(parameter), []).append((place, short, parameter))
    trained = {}
    for (place, path, parameter), *others in found.values():
        everywhere = len(others) + 1 == len(layers) > 1
        trained[f"{SHARED if everywhere else place}.peft.{path}"] = parameter
    return trained


def copied(module: nn.Module, device: str) -> nn.Module:
    """A copy there; of zeros, where ``module`` is on the meta device and ``device`` is not."""
    made = copy.deepcopy(module)
    if device == "cpu" and any(parameter.is_meta for parameter in module.parameters()):
        made = made.to_empty(device="cpu")
        for parameter in made.parameters():
            nn.init.zeros_(parameter)
    return made.to(device)


def carrier(modules: Mapping[str, nn.Module]) -> nn.Module:
    """A module that has ``modules`` under their dotted names, and computes nothing."""
    root = nn.Module()
    for name, module in modules.items():
        owner = root
        *path, last = name.split(".")
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.add_module(last, module)
    return root


def _check_frozen(layers: Mapping[str, Any], modules: Mapping[str, nn.Module]) -> None:
    for name, module in modules.items():
        found = layers[name].get_base_layer().state_dict()
        if not all(torch.equal(found[key], value.cpu()) for key, value in module.state_dict().items()):
            raise ValueError("it would change the frozen weights before training")


def _on_meta(built: Built) -> Built:
    """The same shapes without values."""
    empty = {key: nn.Parameter(torch.empty_like(value, device="meta")) for key, value in built.trained.items()}
    return Built({name: layer.to("meta") for name, layer in built.layers.items()}, empty)
