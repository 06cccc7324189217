"""Visual prompt tuning, deep: fresh learnable tokens at every block."""

from __future__ import annotations

from functools import partial

from torch import nn

from fedmedpeft.backbones import Backbone, as_transformer
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method
from fedmedpeft.methods.prompts import VPT, InsertPrompts, PromptedBlock, PromptOptions, new_projection, new_prompts
from fedmedpeft.methods.shared_module import Lent


@register_method("vpt-deep", PromptOptions)
class VptDeep(Method):
    """Fresh prompts at the input of every block that reads the image; with ``project`` all share one projection."""

    summary = "learnable prompt tokens at every block (10 tokens each)"
    source = VPT
    learning_rate = 1e-2
    starts_frozen = False
    options: PromptOptions

    def __init__(self, options: PromptOptions) -> None:
        super().__init__(options)
        self.averaging = "factors" if options.project else "exact"

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        transformer, options = as_transformer(backbone), self.options
        shared = f"{transformer.prefix}blocks.prompt_projection"
        projection = new_projection(transformer, options, init, shared)
        exchanged = {f"{shared}.{name}": parameter for name, parameter in projection.named_parameters()}
        for index, place in enumerate(transformer.places("block")):
            key = f"{place.key}.prompts"
            source = new_prompts(transformer, options, init, key)
            inserted = InsertPrompts(
                source, Lent(projection) if index else projection, options.dropout, transformer.prefix_tokens
            )
            place.wrap(partial(PromptedBlock, prompts=inserted))
            exchanged[key] = source.prompts
        return exchanged
