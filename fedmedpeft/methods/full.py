"""Full fine-tuning: the reference above every PEFT method."""

from __future__ import annotations

from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method


@register_method("full")
class Full(Method):
    """Every parameter of the backbone. A ResNet's running statistics stay the pretrained ones."""

    summary = "every parameter of the backbone (full fine-tuning, for reference)"
    source = "the reference above every PEFT method"
    learning_rate = 1e-4
    mergeable = True

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return backbone.original_parameters()
