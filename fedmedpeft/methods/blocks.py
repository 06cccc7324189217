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
    """Every parameter of the last blocks: partial fine-tuning."""

    summary = "every parameter of the last blocks (2 blocks)"
    source = "Yosinski et al., NeurIPS 2014 (arXiv 1411.1792)"
    learning_rate = 1e-4
    mergeable = True
    options: BlocksOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        blocks = backbone.places("block")
        if self.options.last > len(blocks):
            raise ConfigError(
                f"method 'blocks(last={self.options.last})': the backbone has {len(blocks)} blocks. Train no more than "
                "these."
            )
        chosen = tuple(f"{place.key}." for place in blocks[-self.options.last :])
        return {key: p for key, p in backbone.original_parameters().items() if key.startswith(chosen)}
