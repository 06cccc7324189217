"""The protocol of a PEFT method, and the registry of them all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.components import NoOptions, Options, Registry
from fedmedpeft.methods.initialiser import Initialiser


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

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        """Change ``backbone`` in place; return the exchanged parameters by canonical key.

        Keys are ``<place>.<parameter>``, such as ``blocks.3.q.lora_A``, and never depend on what was inserted before.
        """


METHODS: Registry[Method] = Registry("method")


def register_method(name: str, options: type[Options] = NoOptions) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: ``@register_method("lora", LoraOptions)``."""

    def decorate(method: type[Method]) -> type[Method]:
        METHODS.register(name, options)(method)
        return method

    return decorate
