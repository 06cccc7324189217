"""The modules of ``sadapter``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fedmedpeft.backbones import Inserted
from fedmedpeft.methods.bottleneck import Bottleneck
from fedmedpeft.methods.shared_module import Lent


class UnusedNorm(Inserted):
    """x, whatever its parameters are; their gradients are zero, so that an optimiser finds them and leaves them."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.0 * (self.weight + self.bias)


class SharingAdapter(Inserted):
    """``relu([own(h); shared(h)])`` of h = norm(x), with one ``own`` for each modality: [B, T, d] -> [B, T, d].

    Args:
        norm: LayerNorm over d channels.
        bottlenecks: by ``text``, ``image`` and ``shared``, from d to d / 2 channels each.
        unused: changes nothing.
    """

    def __init__(self, norm: nn.LayerNorm, bottlenecks: Mapping[str, Bottleneck], unused: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.text, self.image, self.shared = (bottlenecks[name] for name in ("text", "image", "shared"))
        self.unused_norm = unused

    def forward(self, x: torch.Tensor, modality: str) -> torch.Tensor:
        hidden = self.unused_norm(self.norm(x))
        both = torch.cat([getattr(self, modality)(hidden), self.shared(hidden)], dim=-1)
        # The slope of clamp at its bound is one: that of relu would keep bottlenecks that start at zero there.
        return both.clamp(min=0.0)


class BesideSublayer(Inserted):
    """``base(x, ...) + adapter(x)`` for one modality; the adapter is this module's, or lent to it."""

    def __init__(self, base: nn.Module, adapter: SharingAdapter | Lent, modality: str) -> None:
        super().__init__()
        self.base, self.adapter, self.modality = base, adapter, modality

    def forward(self, x: torch.Tensor, *context: torch.Tensor | None) -> torch.Tensor:
        output: torch.Tensor = self.base(x, *context)
        update: torch.Tensor = self.adapter(x, self.modality)
        return output + update
