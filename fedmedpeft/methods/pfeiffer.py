"""Pfeiffer adapters: one per block, after the feed-forward network."""

from __future__ import annotations

from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.methods.bottleneck import AdapterMethod, BottleneckOptions
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import register_method


@register_method("pfeiffer", BottleneckOptions)
class Pfeiffer(AdapterMethod):
    """One per block, h + A(h) on the output of the feed-forward network before its residual."""

    summary = "one bottleneck adapter per block, after the FFN (bottleneck 64)"
    source = "Pfeiffer et al., AdapterFusion, EACL 2021 (arXiv 2005.00247)"
    options: BottleneckOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return self.adapt(backbone.places("ffn_out"), init, name="pfeiffer", bottleneck=self.options.bottleneck)
