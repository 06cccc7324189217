"""Visual prompt tuning, shallow: learnable tokens at the input."""

from __future__ import annotations

from functools import partial

from torch import nn

from fedmedpeft.backbones import Backbone, as_transformer
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method
from fedmedpeft.methods.prompts import (
    VPT,
    InsertPrompts,
    PromptedEmbedding,
    PromptOptions,
    new_projection,
    new_prompts,
)


@register_method("vpt-shallow", PromptOptions)
class VptShallow(Method):
    """Prompts at the input of the first block only."""

    summary = "learnable prompt tokens at the input (10 tokens)"
    source = VPT
    learning_rate = 1e-2
    starts_frozen = False
    options: PromptOptions

    def __init__(self, options: PromptOptions) -> None:
        super().__init__(options)
        self.averaging = "factors" if options.project else "exact"

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        transformer, options = as_transformer(backbone), self.options
        place = transformer.place("embed")
        key, shared = f"{place.key}.prompts", f"{place.key}.prompt_projection"
        source = new_prompts(transformer, options, init, key)
        projection = new_projection(transformer, options, init, shared)
        inserted = InsertPrompts(source, projection, options.dropout, transformer.prefix_tokens)
        place.wrap(partial(PromptedEmbedding, prompts=inserted))
        return {key: source.prompts} | {f"{shared}.{name}": p for name, p in projection.named_parameters()}
