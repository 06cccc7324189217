"""The bottleneck that all adapter methods share, and the two ways of putting it beside what is frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from fedmedpeft.backbones import Inserted, Place
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions

Activation = Literal["relu", "gelu", "quick_gelu"]


def _quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


_ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "quick_gelu": _quick_gelu,
}


class AdapterOptions(MethodOptions):
    """What every adapter method lets one choose."""

    activation: Activation = Field("relu", description="between the two projections")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout after the activation, while training")
    init: Literal["zero", "normal"] = Field(
        "zero", description="zero: training starts at the frozen model; normal: both projections from N(0, 0.02^2)"
    )


class BottleneckOptions(AdapterOptions):
    """Adapters whose width is chosen outright."""

    bottleneck: int = Field(64, ge=1, description="width b of the bottleneck")


class Bottleneck(Inserted):
    """``up(dropout(activation(down(norm(x)))))``: [..., d] -> [..., d] through b < d channels; biases in both."""

    def __init__(self, norm: nn.Module, down: nn.Linear, up: nn.Linear, activation: Activation, drop: float) -> None:
        super().__init__()
        self.norm, self.down, self.up = norm, down, up
        self.activation, self.drop = activation, drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = _ACTIVATIONS[self.activation](self.down(self.norm(x)))
        output: torch.Tensor = self.up(functional.dropout(hidden, self.drop, self.training))
        return output


class SequentialAdapter(Inserted):
    """``h + adapter(h)`` on the output ``h`` of what it wraps."""

    def __init__(self, base: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, x: torch.Tensor, *context: torch.Tensor | None) -> torch.Tensor:
        hidden: torch.Tensor = self.base(x, *context)
        update: torch.Tensor = self.adapter(hidden)
        return hidden + update


class ParallelAdapter(Inserted):
    """``base(x) + scale * adapter(x)``: beside what it wraps, on the same input."""

    def __init__(self, base: nn.Module, adapter: Bottleneck, scale: float) -> None:
        super().__init__()
        self.base, self.adapter, self.scale = base, adapter, scale

    def forward(self, x: torch.Tensor, *context: torch.Tensor | None) -> torch.Tensor:
        output: torch.Tensor = self.base(x, *context)
        update: torch.Tensor = self.adapter(x)
        return output + self.scale * update


class AdapterMethod(Method):
    """Base of the methods that insert bottlenecks.

    With ``init=zero`` only ``up`` is zero: ``down`` must not be too, or no gradient would ever reach either of them.
    """

    learning_rate = 1e-3
    averaging = "factors"
    options: AdapterOptions

    def __init__(self, options: AdapterOptions) -> None:
        super().__init__(options)
        self.starts_frozen = options.init == "zero"

    def adapt(
        self,
        places: Iterable[Place],
        init: Initialiser,
        *,
        name: str,
        bottleneck: int,
        layernorm: bool = False,
        dropout: float | None = None,
        around: Callable[..., nn.Module] = SequentialAdapter,
    ) -> dict[str, nn.Parameter]:
        """Put a bottleneck of its own ``around`` every one of ``places``.

        Args:
            dropout: None: as the options say.

        Returns:
            What is exchanged, by keys ``<place>.<name>.<parameter>``.
        """
        exchanged: dict[str, nn.Parameter] = {}
        drop = self.options.dropout if dropout is None else dropout
        for place in places:
            key, width = f"{place.key}.{name}", place.width
            norm = init.layer_norm(width) if layernorm else nn.Identity()
            adapter = Bottleneck(norm, *self._projections(init, key, width, bottleneck), self.options.activation, drop)
            place.wrap(partial(around, adapter=adapter))
            exchanged |= {f"{key}.{parameter}": value for parameter, value in adapter.named_parameters()}
        return exchanged

    def _projections(self, init: Initialiser, key: str, width: int, bottleneck: int) -> tuple[nn.Linear, nn.Linear]:
        published = self.options.init == "normal"
        return (
            init.linear(f"{key}.down", width, bottleneck, std=0.02 if published else width**-0.5),
            init.linear(f"{key}.up", bottleneck, width, std=0.02 if published else 0.0),
        )
