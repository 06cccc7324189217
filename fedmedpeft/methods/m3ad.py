"""M3AD: general adapters in every block, and adapters with attention that fuse the modalities."""

from __future__ import annotations

from functools import partial
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import nn

from fedmedpeft.backbones import Backbone, Inserted, Place
from fedmedpeft.backbones.attention import MultiHeadAttention
from fedmedpeft.methods.bottleneck import Activation, AdapterMethod, BottleneckOptions
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import register_method


class M3adOptions(BottleneckOptions):
    """Options of ``m3ad``."""

    activation: Activation = Field("gelu", description="between the two projections of a general adapter")
    heads: int = Field(4, ge=1, description="heads of a fusion adapter's attention; the bottleneck is a multiple of it")
    cross: bool = Field(True, description="a general adapter after cross-attention too, as after self-attention")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.bottleneck % self.heads:
            raise ValueError(f"bottleneck={self.bottleneck} must be a multiple of heads={self.heads}")
        return self


class FusionAdapter(Inserted):
    """``up(attention(down(x), down_context(y)))``: x [B, T, d] reads y [B, S, d_y] in b channels -> [B, T, d]."""

    def __init__(self, down: nn.Linear, down_context: nn.Linear, attention: MultiHeadAttention, up: nn.Linear) -> None:
        super().__init__()
        self.down, self.down_context, self.attention, self.up = down, down_context, attention, up

    def forward(self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        output: torch.Tensor = self.up(self.attention(self.down(x), self.down_context(context), mask))
        return output


class AfterCross(Inserted):
    """h + adapter(h, y) on the output h of a cross-attention that reads y."""

    def __init__(self, base: nn.Module, adapter: FusionAdapter) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        hidden: torch.Tensor = self.base(x, context, mask)
        update: torch.Tensor = self.adapter(hidden, context, mask)
        return hidden + update


@register_method("m3ad", M3adOptions)
class M3ad(AdapterMethod):
    """General adapters h + up(gelu(down h)) after attention and FFN, fusion adapters after cross-attention.

    The abstract says where the two kinds are and that the second contains multi-head attention; equations and sizes
    were not to be had and no code is public. These are this project's choices:

    - A general adapter stands on a sub-layer's output before its residual, as Houlsby's; in a block with
      cross-attention there is one after each of its three sub-layers, or with ``cross=false`` after self-attention and
      FFN only (82 or 70 of them in a METER of 11, 12 and 6 layers).
    - A fusion adapter follows every cross-attention: x + up(MHA(q = down x, k = v = down' y)), where y is what that
      cross-attention reads and MHA has its own projections in the b channels and hides the padding of y.
    - All have one bottleneck. ``up`` starts at zero, so training starts at the frozen model.
    """

    summary = "adapters after every attention and FFN, with attention in b channels between modalities (bottleneck 64)"
    source = "Yu et al., M3AD, MLMI 2023 (LNCS 14348:393-402)"
    options: M3adOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        crossed = backbone.places("cross")
        inside = tuple(f"{place.key}." for place in crossed)
        general = [
            place for place in backbone.places("o", "ffn_out") if self.options.cross or not place.key.startswith(inside)
        ]
        exchanged = self.adapt(general, init, name="m3ad", bottleneck=self.options.bottleneck)
        own = backbone.original_parameters("k")
        for place in crossed:
            key = f"{place.key}.m3ad"
            adapter = self._fusion(init, key, place, own[f"{place.key}.k.weight"].shape[1])
            place.wrap(partial(AfterCross, adapter=adapter))
            exchanged |= {f"{key}.{parameter}": value for parameter, value in adapter.named_parameters()}
        return exchanged

    def _fusion(self, init: Initialiser, key: str, place: Place, context: int) -> FusionAdapter:
        inner, width, drawn = self.options.bottleneck, place.width, self.options.init == "normal"

        def linear(name: str, inputs: int, outputs: int) -> nn.Linear:
            return init.linear(f"{key}.{name}", inputs, outputs, std=0.02 if drawn else inputs**-0.5)

        q, k, v, o = (linear(f"attention.{name}", inner, inner) for name in "qkvo")
        return FusionAdapter(
            linear("down", width, inner),
            linear("down_context", context, inner),
            MultiHeadAttention(q, k, v, o, self.options.heads),
            init.linear(f"{key}.up", inner, width, std=0.02 if drawn else 0.0),
        )
