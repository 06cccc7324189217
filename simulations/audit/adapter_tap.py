"""Adapters of a learner's first block, and the tokens that reach them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fedmedpeft.learner import Learner
from fedmedpeft.methods.bottleneck import Bottleneck

_DOWN = "down.weight"


class _Reached(Exception):  # noqa: N818 - it carries what was looked for
    def __init__(self, tokens: torch.Tensor) -> None:
        self.tokens = tokens


@dataclass(frozen=True)
class AdapterTap:
    """One adapter with its names in the PEFT state.

    Attributes:
        prefix: of these names, such as ``blocks.0.ffn_out.houlsby.``.
        adapter: the module.
    """

    prefix: str
    adapter: Bottleneck

    @property
    def hard(self) -> bool:
        """Whether its activation is ReLU, whose slope is a step at any scale."""
        return self.adapter.activation == "relu"

    @property
    def down(self) -> nn.Linear:
        return self.adapter.down

    @property
    def width(self) -> int:
        """b, the rows of the down projection."""
        return self.down.out_features

    def name(self, parameter: str) -> str:
        """Of one of the adapter's parameters, such as ``down.bias``, in the PEFT state."""
        return f"{self.prefix}{parameter}"

    def tokens(self, learner: Learner, images: torch.Tensor) -> torch.Tensor:
        """What reaches the down projection, [B, T, d], of images [B, 3, S, S] in 0..1; nothing behind it is run."""

        def stop(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            raise _Reached(inputs[0])

        hook = self.down.register_forward_pre_hook(stop)
        try:
            learner.features(255 * images)
        except _Reached as reached:
            return reached.tokens.to(images.device)
        finally:
            hook.remove()
        raise AssertionError(f"{self.prefix}: no token reaches this adapter")


def first_taps(learner: Learner, exchanged: set[str]) -> list[AdapterTap]:
    """The exchanged adapters of the first block that has any, in the order of the network; none: no attack on them."""
    adapters = {id(module.down.weight): module for module in learner.modules() if isinstance(module, Bottleneck)}
    taps = [
        AdapterTap(name.removesuffix(_DOWN), adapters[id(trainable.parameter)])
        for name, trainable in learner.trainables.items()
        if name in exchanged and name.endswith(_DOWN) and id(trainable.parameter) in adapters
    ]
    return [tap for tap in taps if _block(tap.prefix) == _block(taps[0].prefix)]


def _block(prefix: str) -> str:
    """``blocks.0.ffn_out.houlsby.`` -> ``blocks.0``."""
    return ".".join(prefix.split(".")[:2])
