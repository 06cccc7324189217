"""Position embedding tuning."""

from __future__ import annotations

from torch import nn

from fedmedpeft.backbones import Backbone, as_transformer
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method


def position_embedding(backbone: Backbone) -> dict[str, nn.Parameter]:
    """The position embedding, of class token and patches, by its key. Raises MissingPlace where there is none."""
    transformer = as_transformer(backbone)
    key = f"{transformer.prefix}embed.position"
    return {key: transformer.original_parameters()[key]}


@register_method("position")
class Position(Method):
    """The learned position embedding, [1 + N, d]."""

    summary = "the position embedding alone"
    source = "part of attention tuning in Dutt et al., MIDL 2024 (PMLR 250:406-425)"
    learning_rate = 3e-3
    mergeable = True

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return position_embedding(backbone)
