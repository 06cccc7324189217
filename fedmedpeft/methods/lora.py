"""LoRA: low-rank adaptation of projection weights."""

from __future__ import annotations

import copy
from functools import partial
from typing import cast

import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn.functional import dropout

from fedmedpeft.backbones import Backbone, Inserted
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method
from fedmedpeft.methods.targets import PROJECTIONS, roles_of


class LoraOptions(MethodOptions):
    """Options of ``lora``."""

    rank: int = Field(8, ge=1, description="rank r of the update")
    alpha: float = Field(16.0, gt=0, allow_inf_nan=False, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of the update, while training")
    targets: str = Field("q,v", description=f"projections to adapt, comma-separated: {', '.join(PROJECTIONS)}")

    @field_validator("targets")
    @classmethod
    def _known_targets(cls, value: str) -> str:
        roles_of(value, PROJECTIONS)
        return value


class LoraLinear(Inserted):
    """``base(x) + scale * up(down(dropout(x)))`` with ``down``: d_in -> r and ``up``: r -> d_out, without bias."""

    def __init__(self, base: nn.Module, down: nn.Linear, up: nn.Linear, scale: float, drop: float) -> None:
        super().__init__()
        self.base, self.down, self.up = base, down, up
        self.scale, self.drop = scale, drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.base(x)
        update: torch.Tensor = self.up(self.down(dropout(x, self.drop, self.training)))
        return output + self.scale * update

    def merged(self, base: nn.Module) -> nn.Module:
        """W0 + scale * B A."""
        linear = copy.deepcopy(cast(nn.Linear, base))
        update = self.up.weight.double() @ self.down.weight.double()
        linear.weight = nn.Parameter((linear.weight.double() + self.scale * update).to(linear.weight.dtype))
        return linear


@register_method("lora", LoraOptions)
class Lora(Method):
    """W0 + (alpha / r) B A on the chosen projections; A ~ N(0, 1/r), B = 0, so training starts at the frozen model."""

    summary = "low-rank updates of the attention projections (rank 8 on q and v)"
    source = "Hu et al., LoRA, ICLR 2022 (arXiv 2106.09685)"
    learning_rate = 2e-3
    averaging = "factors"
    mergeable = True
    options: LoraOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        options = self.options
        exchanged: dict[str, nn.Parameter] = {}
        for place in backbone.places(*roles_of(options.targets, PROJECTIONS)):
            base = cast(nn.Linear, place.original)
            a, b = f"{place.key}.lora_A", f"{place.key}.lora_B"
            down = init.linear(a, base.in_features, options.rank, std=options.rank**-0.5, bias=False)
            up = init.linear(b, options.rank, base.out_features, std=0.0, bias=False)
            scale = options.alpha / options.rank
            place.wrap(partial(LoraLinear, down=down, up=up, scale=scale, drop=options.dropout))
            exchanged |= {a: down.get_parameter("weight"), b: up.get_parameter("weight")}
        return exchanged
