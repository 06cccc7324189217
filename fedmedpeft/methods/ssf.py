"""SSF: scale and shift the features after every operation."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import nn

from fedmedpeft.backbones import Backbone, Inserted, MissingPlace, Role
from fedmedpeft.backbones.transformer import PatchProjection
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method

_OPERATIONS: tuple[Role, ...] = (
    "patch", "norm_pre", "norm1", "q", "k", "v", "o", "norm2", "ffn_in", "ffn_out", "norm",
    "norm_cross", "transform", "pooler",
    "conv", "batchnorm",
)  # fmt: skip


class ScaleShift(Inserted):
    """``gamma * x + beta``, one of each per channel, [C]; ``channel_dim`` of ``x`` holds the channels."""

    def __init__(self, gamma: nn.Parameter, beta: nn.Parameter, channel_dim: int) -> None:
        super().__init__()
        self.gamma, self.beta = gamma, beta
        self.channel_dim = channel_dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = [1] * x.dim()
        shape[self.channel_dim] = -1
        return x * self.gamma.view(shape) + self.beta.view(shape)


class ScaledShifted(Inserted):
    """Scale and shift what an operation gives."""

    def __init__(self, base: nn.Module, ssf: ScaleShift) -> None:
        super().__init__()
        self.base, self.ssf = base, ssf

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.ssf(self.base(x))
        return output

    def merged(self, base: nn.Module) -> nn.Module:
        """The operation with weight gamma W and bias gamma b + beta; it gets a bias where it had none."""
        merged = copy.deepcopy(base)
        operation = _operation(merged)
        weight, bias = operation.get_parameter("weight"), operation._parameters.get("bias")
        gamma, beta = self.ssf.gamma.detach().double(), self.ssf.beta.detach().double()
        scaled = gamma.view(-1, *[1] * (weight.dim() - 1)) * weight.double()
        shifted = beta if bias is None else gamma * bias.double() + beta
        for name, values in (("weight", scaled), ("bias", shifted)):
            operation.register_parameter(name, nn.Parameter(values.to(weight.dtype), requires_grad=False))
        return merged


@register_method("ssf")
class Ssf(Method):
    """y = gamma * x + beta after every projection and norm; gamma = 1, beta = 0 start at the frozen model."""

    summary = "scale and shift after every projection and norm"
    source = "Lian et al., SSF, NeurIPS 2022 (arXiv 2210.08823)"
    learning_rate = 3e-3
    mergeable = True

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        places = backbone.places(optional=_OPERATIONS)
        if not places:
            raise MissingPlace("conv")
        exchanged: dict[str, nn.Parameter] = {}
        for place in places:
            channels = len(_operation(place.original).get_parameter("weight"))
            ssf = ScaleShift(init.ones(channels), init.zeros(channels), place.channel_dim)
            place.wrap(partial(ScaledShifted, ssf=ssf))
            exchanged |= {f"{place.key}.ssf_{name}": parameter for name, parameter in ssf.named_parameters()}
        return exchanged


def _operation(module: nn.Module) -> nn.Module:
    """The module with the weight, whose first dimension is the channels of the output."""
    return module.convolution if isinstance(module, PatchProjection) else module
