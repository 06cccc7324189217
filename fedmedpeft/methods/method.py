"""The protocol of a PEFT method, and the registry of them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal, get_args

from pydantic import Field, field_validator
from torch import nn

from fedmedpeft.backbones import Backbone, Part
from fedmedpeft.components import Options, Registry, parse_composition, suggest
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.rotation import Rotation

Averaging = Literal["exact", "factors", "no"]
"""What the mean of several sites' states is. ``exact``: the model whose weights are the mean of theirs. ``factors``:
only near it, since what is averaged are factors of a product or another parametrisation that is not linear. ``no``:
nothing that means anything."""


PARTS: tuple[Part, ...] = get_args(Part)


class MethodOptions(Options):
    """What every method lets one choose; the base of all their options."""

    where: str = Field(
        "", description=f"networks of the backbone to act in, comma-separated: {', '.join(PARTS)}; empty: all of them"
    )

    @field_validator("where")
    @classmethod
    def _known_parts(cls, value: str) -> str:
        for part in _listed(value):
            if part not in PARTS:
                raise ValueError(f"no network '{part}'.{suggest(part, PARTS)} Known: {', '.join(PARTS)}")
        return value

    @property
    def parts(self) -> tuple[Part, ...]:
        """The networks that ``where`` names, in the order of :data:`PARTS`; empty: all that the backbone has."""
        return tuple(part for part in PARTS if part in _listed(self.where))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() else []


class Method(ABC):
    """What is inserted into, or unfrozen in, a frozen backbone.

    A method inserts leaf modules at roles (or picks the backbone's own parameters) and returns what is trained and
    exchanged. It knows neither the task, nor the federation, nor other methods.
    """

    summary: ClassVar[str]
    """What it is, in one line, with the defaults a reader needs to compare counts."""
    source: ClassVar[str]
    """The paper it comes from."""
    learning_rate: ClassVar[float]
    """AdamW step size that suits it, where the run configuration sets none."""
    keeps_features: ClassVar[bool] = False
    """True where the backbone's features stay those of the frozen network, so that they can be computed once."""
    # What follows a class says once; an instance says otherwise where an option decides it.
    starts_frozen: bool = True
    """True where the model before training is, to the bit, the frozen one."""
    averaging: Averaging = "exact"
    """What the mean of several sites' states is."""
    mergeable: bool = False
    """True where training can be folded into plain weights of the backbone, for good."""
    dp_capable: bool = True
    """True where DP-SGD can bound what one record does: every parameter is owned by a module that is called once per
    forward pass with the batch as the first dimension. A BatchNorm's parameters never allow it, whoever trains them."""

    keeps_statistics: bool = False
    """True where training moves statistics of a site's images (``Inserted.kept``), which stay there."""
    class_bound: bool = False
    """True where what it trains belongs to the classes in their order, as a head's rows do."""
    draws_unsent: bool = False
    """True where the run's seed draws what is neither trained nor sent: a state means nothing without that seed."""

    options: MethodOptions

    def __init__(self, options: MethodOptions) -> None:
        self.options = options

    @abstractmethod
    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        """Change ``backbone`` in place; return the exchanged parameters by canonical key.

        Keys are ``<place>.<parameter>``, such as ``blocks.3.q.lora_A``, and never depend on what was inserted before.

        Raises:
            MissingPlace: the backbone lacks a place that the method acts on.
            ConfigError: an option does not fit the backbone.
        """

    def make_head(
        self, backbone: Backbone, classes: Sequence[str], init: Initialiser
    ) -> tuple[nn.Module, dict[str, nn.Parameter]] | None:
        """A head of the method's own in place of the linear one: features [B, d] -> logits [B, C].

        Returns:
            The head and what of it is exchanged, by canonical key; None where the linear head serves.
        """
        return None

    def rotation(self, keys: Iterable[str]) -> Rotation | None:
        """Where each round trains and exchanges only a part of what this method trains: which part, and when.

        Args:
            keys: all that :meth:`insert` returned.

        Returns:
            None where every round trains everything, as for nearly all methods.

        Raises:
            ConfigError: an option does not fit the backbone.
        """
        return None


METHODS: Registry[Method] = Registry("method")


def stays_at_sites(composition: str, personal: Iterable[str]) -> tuple[str, ...]:
    """What of a run never leaves a site, in words: its personal parts, and statistics that training moves there."""
    statistics = [spec.name for spec in parse_composition(composition) if METHODS.build(spec).keeps_statistics]
    return (*personal, *(f"statistics of {name}" for name in statistics))


def register_method(name: str, options: type[MethodOptions] = MethodOptions) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: ``@register_method("lora", LoraOptions)``."""

    def decorate(method: type[Method]) -> type[Method]:
        METHODS.register(name, options)(method)
        return method

    return decorate
