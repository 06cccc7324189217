"""New parameters with values that depend on nothing but the run's seed and their own name."""

from __future__ import annotations

import hashlib
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
        return self._parameter(torch.randn(shape, generator=self._generator(key)) * std)

    def uniform(self, key: str, *shape: int, bound: float) -> nn.Parameter:
        return self._parameter((torch.rand(shape, generator=self._generator(key)) * 2 - 1) * bound)

    def zeros(self, *shape: int) -> nn.Parameter:
        return self._parameter(torch.zeros(shape))

    def linear(self, key: str, inputs: int, outputs: int, *, std: float, bias: bool = True) -> nn.Linear:
        """A Linear with weight N(0, std^2), exactly zero for ``std=0``, and zero bias."""
        layer = nn.Linear(inputs, outputs, bias=bias, device="meta")
        shape = (outputs, inputs)
        layer.weight = self.normal(f"{key}.weight", *shape, std=std) if std else self.zeros(*shape)
        if bias:
            layer.bias = self.zeros(outputs)
        return layer

    def _generator(self, key: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed}/{key}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def _parameter(self, values: torch.Tensor) -> nn.Parameter:
        return nn.Parameter(values.to(self.device))
