"""AdaptFormer: a scaled bottleneck beside the feed-forward network."""

from __future__ import annotations

from functools import partial

from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.methods.bottleneck import AdapterMethod, BottleneckOptions, ParallelAdapter
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import register_method


class AdaptFormerOptions(BottleneckOptions):
    """Options of ``adaptformer``."""

    scale: float = Field(0.1, gt=0, allow_inf_nan=False, description="factor s on the adapter's output")
    layernorm: bool = Field(False, description="a trained LayerNorm of its own on the adapter's input")


@register_method("adaptformer", AdaptFormerOptions)
class AdaptFormer(AdapterMethod):
    """x + FFN(LN x) + s A(x), one A per block; with ``layernorm``, s A(LN' x) with a trained LN' of its own.

    In post-norm blocks it is LN(x + FFN x) + s A(x): behind the norm, so that round 0 is the frozen model all the same.
    """

    summary = "one scaled bottleneck adapter per block, beside the FFN (bottleneck 64)"
    source = "Chen et al., AdaptFormer, NeurIPS 2022 (arXiv 2205.13535)"
    options: AdaptFormerOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        options = self.options
        return self.adapt(
            backbone.places("ffn"),
            init,
            name="adaptformer",
            bottleneck=options.bottleneck,
            layernorm=options.layernorm,
            around=partial(ParallelAdapter, scale=options.scale),
        )
