"""The last blocks of the backbone."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.components import ConfigError
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method


class BlocksOptions(MethodOptions):
    """Options of ``blocks``."""

    last: int = Field(2, ge=1, description="blocks to train, counted from the readout")


@register_method("blocks", BlocksOptions)
class Blocks(Method):
    """Every parameter of the last blocks: partial fine-tuning.

    In a backbone of several networks these are the last of the one that makes the feature; where ``where`` names
    networks, the last of each of them.
    """

    summary = "every parameter of the last blocks (2 blocks)"
    source = "Yosinski et al., NeurIPS 2014 (arXiv 1411.1792)"
    learning_rate = 1e-4
    mergeable = True
    options: BlocksOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        blocks, last = backbone.places("block"), self.options.last
        chosen: tuple[str, ...] = ()
        for part in self.options.parts or (blocks[-1].part,):
            there = [f"{place.key}." for place in blocks if place.part == part]
            if last > len(there):
                raise ConfigError(
                    f"method 'blocks(last={last})': the backbone has {len(there)} blocks in '{part}'. Train no more "
                    "than these."
                )
            chosen += tuple(there[-last:])
        return {key: p for key, p in backbone.original_parameters().items() if key.startswith(chosen)}
