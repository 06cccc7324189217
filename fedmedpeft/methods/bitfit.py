"""BitFit: bias-term tuning."""

from __future__ import annotations

from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method


@register_method("bitfit")
class BitFit(Method):
    """Every bias of the backbone, those of norms and of the patch embedding included.

    In a ResNet, whose convolutions have none, these are the shifts of the BatchNorms.
    """

    summary = "every bias of the backbone"
    source = "Ben Zaken et al., BitFit, ACL 2022 (arXiv 2106.10199)"
    learning_rate = 3e-3
    mergeable = True

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return {key: p for key, p in backbone.original_parameters().items() if key.endswith(".bias")}
