"""Feed-forward tuning."""

from __future__ import annotations

from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method


@register_method("ffn")
class FeedForward(Method):
    """Weights and biases of both projections of the feed-forward network in every block."""

    summary = "every feed-forward network's own weights and biases"
    source = "Chen et al., Intrinsic tuning for medical VQA, ACM MM 2024 (arXiv 2404.16385)"
    learning_rate = 1e-4
    mergeable = True

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return backbone.original_parameters("ffn_in", "ffn_out")
