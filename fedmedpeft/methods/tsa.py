"""TSA: task-specific adapters, 1x1 convolutions beside the convolutions of a residual network."""

from __future__ import annotations

import copy
from functools import partial
from typing import Literal, cast

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import linear

from fedmedpeft.backbones import Backbone, Inserted
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method

_IDENTITY_SCALE = 1e-4


class TsaOptions(MethodOptions):
    """Options of ``tsa``."""

    targets: Literal["3x3", "all"] = Field(
        "3x3", description="3x3: the 3x3 convolutions of the residual blocks; all: their 1x1 ones and shortcuts too"
    )
    init: Literal["zero", "identity"] = Field(
        "zero", description="zero: starts at the frozen model; identity: at 0.0001 times the identity, as in the paper"
    )
    alignment: bool = Field(
        False, description="a linear map of the feature before the head, starting at the identity, as in the paper"
    )


class ParallelConvolution(Inserted):
    """``base(h) + adapter(h)``: a k x k convolution and a 1x1 one of the same stride, without bias."""

    def __init__(self, base: nn.Module, adapter: nn.Conv2d) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.base(features)
        update: torch.Tensor = self.adapter(features)
        return output + update

    def merged(self, base: nn.Module) -> nn.Module:
        """The adapter added to the centre of the kernel."""
        convolution = copy.deepcopy(cast(nn.Conv2d, base))
        weight = convolution.weight.detach().clone()
        row, column = (size // 2 for size in convolution.kernel_size)
        weight[:, :, row, column] += self.adapter.weight.detach()[:, :, 0, 0]
        convolution.weight = nn.Parameter(weight)
        return convolution


class Alignment(Inserted):
    """f -> (I + D) f with D [d, d]: zero at the start, and where weight decay pulls."""

    def __init__(self, difference: nn.Parameter) -> None:
        super().__init__()
        self.difference = difference

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return feature + linear(feature, self.difference)


class AlignedReadout(Inserted):
    """The feature, aligned."""

    def __init__(self, base: nn.Module, alignment: Alignment) -> None:
        super().__init__()
        self.base, self.alignment = base, alignment

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        feature: torch.Tensor = self.alignment(self.base(features))
        return feature


@register_method("tsa", TsaOptions)
class Tsa(Method):
    """f(h) + r(h) with r a 1x1 convolution in matrix form beside every 3x3 convolution f of the residual blocks.

    The paper also aligns the feature, for a classifier of class means; beside the linear head used here ``alignment``
    adds nothing that the head could not learn, at d^2 parameters, so it is an option.
    """

    summary = "1x1 convolutions beside the 3x3 convolutions of a ResNet (matrix form, starting at zero)"
    source = "Li, Liu & Bilen, Task-specific Adapters, CVPR 2022 (arXiv 2107.00358)"
    learning_rate = 1e-3
    options: TsaOptions

    def __init__(self, options: TsaOptions) -> None:
        super().__init__(options)
        self.starts_frozen = options.init == "zero"
        # No published ResNet has a linear map after its average.
        self.mergeable = not options.alignment

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        exchanged: dict[str, nn.Parameter] = {}
        for place in backbone.places("conv"):
            if place.key.startswith("blocks.") and self._is_target(cast(nn.Conv2d, place.original)):
                key = f"{place.key}.tsa"
                adapter = self._adapter(cast(nn.Conv2d, place.original), init)
                place.wrap(partial(ParallelConvolution, adapter=adapter))
                exchanged[key] = adapter.get_parameter("weight")
        if self.options.alignment:
            place = backbone.place("readout")
            alignment = Alignment(init.zeros(backbone.feature_size, backbone.feature_size))
            place.wrap(partial(AlignedReadout, alignment=alignment))
            exchanged[f"{place.key}.alignment"] = alignment.difference
        return exchanged

    def _is_target(self, convolution: nn.Conv2d) -> bool:
        return self.options.targets == "all" or convolution.kernel_size == (3, 3)

    def _adapter(self, convolution: nn.Conv2d, init: Initialiser) -> nn.Conv2d:
        inputs, outputs = convolution.in_channels, convolution.out_channels
        adapter = nn.Conv2d(inputs, outputs, 1, stride=convolution.stride, bias=False, device="meta")  # type: ignore[arg-type]
        adapter.weight = init.zeros(outputs, inputs, 1, 1)
        if self.options.init == "identity":
            adapter.weight.data[:, :, 0, 0].fill_diagonal_(_IDENTITY_SCALE)
        return adapter
