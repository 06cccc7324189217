"""Houlsby adapters: after attention and after the feed-forward network."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.methods.bottleneck import Activation, AdapterMethod, BottleneckOptions
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import register_method


class HoulsbyOptions(BottleneckOptions):
    """Options of ``houlsby``."""

    activation: Activation = Field("gelu", description="between the two projections")


@register_method("houlsby", HoulsbyOptions)
class Houlsby(AdapterMethod):
    """h + A(h) on the output of each sub-layer before its residual: two per block, three where a block has
    cross-attention as well."""

    summary = "two bottleneck adapters per block, after attention and FFN (bottleneck 64)"
    source = "Houlsby et al., ICML 2019 (arXiv 1902.00751)"
    options: HoulsbyOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return self.adapt(backbone.places("o", "ffn_out"), init, name="houlsby", bottleneck=self.options.bottleneck)
