"""Stochastic block attention: each round trains and exchanges the attention of a few drawn blocks."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone, Role
from fedmedpeft.components import ConfigError
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method
from fedmedpeft.methods.rotation import Order, Rotation

_ATTENTION: tuple[Role, ...] = ("q", "k", "v", "o")


class SbaOptions(MethodOptions):
    """Options of ``sba``."""

    blocks: int = Field(1, ge=1, description="blocks drawn for a round")
    order: Order = Field("uniform", description="uniform: drawn anew every round; cyclic: one after the other")
    per_site: bool = Field(False, description="draw for every site on its own, rather than one draw for all")
    persist: bool = Field(True, description="keep what a block learned; false: back to its start when not drawn")
    norms: bool = Field(False, description="train the LayerNorm of a drawn block's attention too")


@register_method("sba", SbaOptions)
class StochasticBlockAttention(Method):
    """The server draws blocks for each round; their q, k, v and o are trained and exchanged, all else rests.

    The paper names the method and its number of parameters; how blocks are drawn, and whether their updates last, is
    this project's choice, with options for the others. A co-attention layer counts as four blocks, one for each of its
    attentions: all groups are of one size where all networks are of one width.
    """

    summary = "attention of one block per round, drawn at random (1 block)"
    source = "Alkhunaizi et al., 2024 (arXiv 2407.11573)"
    learning_rate = 1e-4
    mergeable = True
    options: SbaOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        if not self.options.norms:
            return backbone.original_parameters(*_ATTENTION)
        return backbone.original_parameters("norm1", *_ATTENTION, optional=("norm_cross",))

    def rotation(self, keys: Iterable[str]) -> Rotation:
        """One group per attention, in order. Raises ConfigError where there are fewer blocks than a round draws."""
        options = self.options
        groups: dict[str, frozenset[str]] = {}
        for key in keys:
            block = key.rsplit(".", 2)[0]
            groups[block] = groups.get(block, frozenset()) | {key}
        if options.blocks > len(groups):
            raise ConfigError(
                f"method 'sba(blocks={options.blocks})': the backbone has {len(groups)} blocks. Draw no more."
            )
        return Rotation(groups, options.blocks, options.order, options.per_site, options.persist)
