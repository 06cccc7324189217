"""Attention tuning."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method
from fedmedpeft.methods.position import position_embedding


class AttentionOptions(MethodOptions):
    """Options of ``attention``."""

    position: bool = Field(False, description="the position embedding too, as in Dutt et al., MIDL 2024")


@register_method("attention", AttentionOptions)
class Attention(Method):
    """Weights and biases of q, k, v and o in every block."""

    summary = "every attention's own weights and biases"
    source = "Touvron et al., ECCV 2022 (arXiv 2203.09795); Chen et al., ACM MM 2024 (arXiv 2404.16385)"
    learning_rate = 1e-4
    mergeable = True
    options: AttentionOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        exchanged = backbone.original_parameters("q", "k", "v", "o")
        return exchanged | (position_embedding(backbone) if self.options.position else {})
