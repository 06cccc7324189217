"""LayerNorm tuning."""

from __future__ import annotations

from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method


@register_method("layernorm")
class LayerNorm(Method):
    """Scale and shift of every LayerNorm: y = gamma * (x - mean) / sqrt(var + eps) + beta."""

    summary = "scale and shift of every LayerNorm"
    source = "Chen et al., Intrinsic tuning for medical VQA, ACM MM 2024 (arXiv 2404.16385)"
    learning_rate = 3e-3
    mergeable = True

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return backbone.original_parameters("norm1", "norm2", optional=("norm_pre", "norm_cross", "norm"))
