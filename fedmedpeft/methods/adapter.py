"""Bottleneck adapters after attention and after the feed-forward network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from fedmedpeft.backbones import Backbone, Inserted, as_transformer
from fedmedpeft.components import Options
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"relu": functional.relu, "gelu": functional.gelu}


class AdapterOptions(Options):
    """Options of ``adapter``."""

    bottleneck: int = Field(64, ge=1, description="width b of the bottleneck")
    activation: Literal["relu", "gelu"] = Field("gelu", description="between the two projections")


class SequentialAdapter(Inserted):
    """``h + up(activation(down(h)))`` on the output ``h`` of what it wraps; ``down``: d -> b, ``up``: b -> d."""

    def __init__(self, base: nn.Module, down: nn.Linear, up: nn.Linear, activation: str) -> None:
        super().__init__()
        self.base, self.down, self.up = base, down, up
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.base(x)
        update: torch.Tensor = self.up(_ACTIVATIONS[self.activation](self.down(hidden)))
        return hidden + update


@register_method("adapter", AdapterOptions)
class Adapter(Method):
    """Two per block, inside each sub-layer before its residual; ``up`` starts at zero, so does their effect."""

    summary = "two bottleneck adapters per block, after attention and FFN (bottleneck 64)"
    source = "Houlsby et al., ICML 2019 (arXiv 1902.00751)"
    learning_rate = 1e-3
    averaging = "factors"
    options: AdapterOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        width, bottleneck = as_transformer(backbone).hidden_size, self.options.bottleneck
        exchanged: dict[str, nn.Parameter] = {}
        for place in backbone.places("o", "ffn_out"):
            key = f"{place.key}.adapter"
            down = init.linear(f"{key}.down", width, bottleneck, std=width**-0.5)
            up = init.linear(f"{key}.up", bottleneck, width, std=0.0)
            adapter = place.wrap(partial(SequentialAdapter, down=down, up=up, activation=self.options.activation))
            exchanged |= {f"{key}.{n}": p for n, p in adapter.named_parameters() if not n.startswith("base.")}
        return exchanged
