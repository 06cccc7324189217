"""A frozen backbone and the places in it where a method may insert modules or unfreeze parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from fedmedpeft.backbones.record import BackboneRecord

Role = Literal["embed", "block", "norm1", "q", "k", "v", "o", "norm2", "ffn_in", "ffn_out", "norm"]
ROLES: tuple[Role, ...] = get_args(Role)
"""What a place does, whatever the architecture calls it. ``norm1`` precedes attention, ``norm2`` the feed-forward
network, ``norm`` ends the backbone; ``q k v o`` are the attention projections."""


class Inserted(nn.Module):
    """Base of every leaf module that a method inserts: it owns the method's parameters and follows train/eval mode.

    The module it wraps, if any, stays in evaluation mode: a frozen backbone neither drops units nor moves statistics.
    """


@dataclass(frozen=True)
class Place:
    """One spot of a backbone: ``key`` is canonical (``blocks.3.q``), ``original`` the frozen module found there."""

    role: Role
    key: str
    owner: nn.Module
    attribute: str
    original: nn.Module

    def wrap(self, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
        """Put ``make(current module)`` in this place and return it."""
        module = make(getattr(self.owner, self.attribute))
        setattr(self.owner, self.attribute, module)
        return module


class Backbone(nn.Module):
    """Images to one feature vector each; every parameter frozen.

    Args:
        record: architecture and preprocessing.
        embed: normalised pixels [B, 3, S, S] -> tokens [B, 1 + N, d], class token first.
        blocks: tokens -> tokens, each.
        norm: the final LayerNorm.
        places: where methods may act, in a fixed order.
        fingerprint: hash of architecture and weights; empty for a skeleton without weights.
    """

    prefix_tokens = 1

    def __init__(
        self,
        record: BackboneRecord,
        *,
        embed: nn.Module,
        blocks: Iterable[nn.Module],
        norm: nn.Module,
        fingerprint: str = "",
    ) -> None:
        super().__init__()
        self.record = record
        self.fingerprint = fingerprint
        self.embed = embed
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm
        self._places: tuple[Place, ...] = ()
        self.requires_grad_(False)
        self.eval()

    @property
    def hidden_size(self) -> int:
        return self.record.architecture.hidden_size

    def set_places(self, places: Iterable[Place]) -> None:
        """Record the places once, on the untouched network, and check that each role occurs as often as it must.

        Raises:
            ValueError: a role is missing or too frequent, or a parameter belongs to no place.
        """
        self._places = tuple(places)
        for role in ROLES:
            expected = 1 if role in ("embed", "norm") else len(self.blocks)
            found = len(self.places(role))
            if found != expected:
                raise ValueError(
                    f"Backbone '{self.record.name}': role '{role}' found {found} times, expected {expected}."
                )
        covered = {id(parameter) for parameter in self.original_parameters().values()}
        missing = [name for name, parameter in self.named_parameters() if id(parameter) not in covered]
        if missing:
            raise ValueError(f"Backbone '{self.record.name}': parameters in no place: {', '.join(missing[:5])}.")

    def places(self, *roles: Role) -> list[Place]:
        """The places with one of ``roles``, block by block."""
        return [place for place in self._places if place.role in roles]

    def original_parameters(self) -> dict[str, nn.Parameter]:
        """The backbone's own parameters by canonical name (``blocks.3.q.weight``), whatever has been inserted since."""
        leaves = [place for place in self._places if place.role != "block"]
        return {f"{place.key}.{name}": p for place in leaves for name, p in place.original.named_parameters()}

    def train(self, mode: bool = True) -> Backbone:
        """Only inserted modules change mode; the frozen network always computes as in evaluation."""
        super().train(False)
        for module in self.modules():
            if isinstance(module, Inserted):
                module.training = mode
        return self

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [B, 3, S, S] -> class-token feature [B, d]."""
        tokens = self.embed(pixels)
        for block in self.blocks:
            tokens = block(tokens)
        feature: torch.Tensor = self.norm(tokens[:, 0])
        return feature
