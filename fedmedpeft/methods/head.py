"""Head only (linear probing): nothing in the backbone learns."""

from __future__ import annotations

from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method


@register_method("head")
class Head(Method):
    """Adds nothing; the task's head, which every method trains, is all that travels."""

    summary = "the task's head alone, on frozen features (linear probing)"
    source = "the reference below every PEFT method"
    learning_rate = 5e-3
    mergeable = True
    keeps_features = True

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return {}
