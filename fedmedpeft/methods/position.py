"""Position embedding tuning."""

from __future__ import annotations

from torch import nn

from fedmedpeft.backbones import Backbone, as_transformer
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method

_KEY = "embed.position"


def position_embedding(backbone: Backbone) -> dict[str, nn.Parameter]:
    """The position embedding, of class token and patches, by its key. Raises MissingPlace where there is none."""
    return {_KEY: as_transformer(backbone).original_parameters()[_KEY]}


@register_method("position")
class Position(Method):
    """The learned position embedding, [1 + N, d]."""

    summary = "the position embedding alone"
    source = "part of attention tuning in Dutt et al., MIDL 2024 (PMLR 250:406-425)"
    learning_rate = 3e-3
    mergeable = True

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return position_embedding(backbone)
