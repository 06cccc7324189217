"""LoRA: low-rank adaptation of projection weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial
from typing import Literal, cast

import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn.functional import dropout

from fedmedpeft.backbones import Backbone, Inserted, Place
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method
from fedmedpeft.methods.rotation import Rotation
from fedmedpeft.methods.targets import PROJECTIONS, roles_of

Factors = Literal["both", "ffa", "rolora"]


class LoraOptions(MethodOptions):
    """Options of ``lora``."""

    rank: int = Field(8, ge=1, description="rank r of the update")
    alpha: float = Field(16.0, gt=0, allow_inf_nan=False, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of the update, while training")
    targets: str = Field("q,v", description=f"projections to adapt, comma-separated: {', '.join(PROJECTIONS)}")
    factors: Factors = Field(
        "both", description="both: A and B train; ffa: B alone, A stays as drawn; rolora: B and A by turns, B first"
    )

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
    """W0 + (alpha / r) B A on the chosen projections; A ~ N(0, 1/r), B = 0, so training starts at the frozen model.

    With ``factors`` only one factor trains in a round. The mean of the sites' products is then the product of the mean,
    and where noise is added (DP-SGD) it enters once, not as a product of two noises.

    - ``ffa`` (Sun et al., ICLR 2024, arXiv 2403.12313): A stays as the run's seed draws it and is never sent.
    - ``rolora`` (Chen et al., arXiv 2409.02346): B and A by turns. B first: A has no gradient while B is zero.
    """

    summary = "low-rank updates of the attention projections (rank 8 on q and v)"
    source = "Hu et al., LoRA, ICLR 2022 (arXiv 2106.09685)"
    learning_rate = 2e-3
    mergeable = True
    options: LoraOptions

    def __init__(self, options: LoraOptions) -> None:
        super().__init__(options)
        self.averaging = "factors" if options.factors == "both" else "exact"
        self.draws_unsent = options.factors == "ffa"

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        options = self.options
        exchanged: dict[str, nn.Parameter] = {}
        for place in self.places(backbone):
            base, (a, b) = cast(nn.Linear, place.original), _keys(place)
            down = self._down(place, init)
            up = init.linear(b, options.rank, base.out_features, std=0.0, bias=False)
            scale = options.alpha / options.rank
            place.wrap(partial(LoraLinear, down=down, up=up, scale=scale, drop=options.dropout))
            if options.factors == "ffa":
                down.requires_grad_(False)
            else:
                exchanged[a] = down.get_parameter("weight")
            exchanged[b] = up.get_parameter("weight")
        return exchanged

    def rotation(self, keys: Iterable[str]) -> Rotation | None:
        """With ``rolora`` all B in odd rounds and all A in even ones."""
        if self.options.factors != "rolora":
            return None
        names = list(keys)
        groups = {factor: frozenset(key for key in names if key.endswith(factor)) for factor in ("lora_B", "lora_A")}
        return Rotation(groups, 1, "cyclic")

    def places(self, backbone: Backbone) -> list[Place]:
        """Where it acts. Raises MissingPlace."""
        return backbone.places(*roles_of(self.options.targets, PROJECTIONS))

    def unsent(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        """What the run's seed draws and nobody sends, by the keys that it would be sent under: with ``ffa`` every A."""
        if self.options.factors != "ffa":
            return {}
        return {_keys(place)[0]: self._down(place, init).get_parameter("weight") for place in self.places(backbone)}

    def _down(self, place: Place, init: Initialiser) -> nn.Linear:
        """A, as the seed draws it for one place."""
        width, rank = cast(nn.Linear, place.original).in_features, self.options.rank
        return init.linear(_keys(place)[0], width, rank, std=rank**-0.5, bias=False)


def _keys(place: Place) -> tuple[str, str]:
    """Of A and of B."""
    return f"{place.key}.lora_A", f"{place.key}.lora_B"
