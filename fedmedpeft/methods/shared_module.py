"""One module in several places of a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Lent:
    """A module for those who call it and are not its parent.

    A module that is to be called from several places is the child of the first and lent to the others: whoever walks
    over the network then meets it once. Hooks for per-record gradients would otherwise count each of its calls as often
    as it has parents.
    """

    module: nn.Module

    def __call__(self, *inputs: object) -> torch.Tensor:
        output: torch.Tensor = self.module(*inputs)
        return output
