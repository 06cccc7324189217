"""New parameters with values that depend on nothing but the run's seed and their own name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Initialiser:
    """Draws each parameter from its own generator, on the CPU, so that every site starts from the same bits.

    The order in which methods are inserted, the device, and which other methods are present make no difference.
    On the meta device nothing is drawn: shapes only.
    """

    seed: int
    device: torch.device

    def normal(self, key: str, *shape: int, std: float) -> nn.Parameter:
        return self._parameter(shape, lambda: torch.randn(shape, generator=self._generator(key)) * std)

    def uniform(self, key: str, *shape: int, bound: float) -> nn.Parameter:
        return self._parameter(shape, lambda: (torch.rand(shape, generator=self._generator(key)) * 2 - 1) * bound)

    def zeros(self, *shape: int) -> nn.Parameter:
        return self._parameter(shape, lambda: torch.zeros(shape))

    def ones(self, *shape: int) -> nn.Parameter:
        return self._parameter(shape, lambda: torch.ones(shape))

    def constant(self, value: float, *shape: int) -> nn.Parameter:
        return self._parameter(shape, lambda: torch.full(shape, value))

    def linear(self, key: str, inputs: int, outputs: int, *, std: float, bias: bool = True) -> nn.Linear:
        """A Linear with weight N(0, std^2), exactly zero for ``std=0``, and zero bias."""
        layer = nn.Linear(inputs, outputs, bias=bias, device="meta")
        shape = (outputs, inputs)
        layer.weight = self.normal(f"{key}.weight", *shape, std=std) if std else self.zeros(*shape)
        if bias:
            layer.bias = self.zeros(outputs)
        return layer

    def layer_norm(self, width: int) -> nn.LayerNorm:
        """A LayerNorm that scales by one and shifts by zero; nothing is drawn."""
        layer = nn.LayerNorm(width, device="meta")
        layer.weight, layer.bias = self.ones(width), self.zeros(width)
        return layer

    def number(self, key: str) -> int:
        """A seed for what cannot be drawn here, 63 bits; it depends on the run's seed and on ``key``."""
        digest = hashlib.sha256(f"{self.seed}/{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def _generator(self, key: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.number(key))

    def _parameter(self, shape: tuple[int, ...], draw: Callable[[], torch.Tensor]) -> nn.Parameter:
        skeleton = self.device.type == "meta"
        return nn.Parameter(torch.empty(shape, device="meta") if skeleton else draw().to(self.device))
