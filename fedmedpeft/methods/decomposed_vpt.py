"""Decomposed visual prompts: low-rank prompts, exchanged as their factors."""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone, Inserted, Transformer, as_transformer
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method
from fedmedpeft.methods.prompts import InsertPrompts, PromptedBlock, PromptedEmbedding, prompt_bound


class DecomposedPromptOptions(MethodOptions):
    """Options of ``decomposed-vpt``."""

    tokens: int = Field(50, ge=1, description="prompt tokens (per block where deep)")
    rank: int = Field(8, ge=1, description="rank r of the prompts")
    deep: bool = Field(True, description="fresh prompts at every block, rather than at the input only")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the prompts, while training")


class FactoredPrompts(Inserted):
    """Prompts A B of A [T, r] and B [r, d], once for each record: tokens [B, ...] -> [B, T, d]."""

    def __init__(self, a: nn.Parameter, b: nn.Parameter) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return (self.a @ self.b).expand(len(tokens), -1, -1)


@register_method("decomposed-vpt", DecomposedPromptOptions)
class DecomposedVpt(Method):
    """VPT with P = A B: r (T + d) numbers in place of T d.

    The paper (where it is called DVPT) leaves rank and start open. Here both factors are normal with one variance, so
    chosen that an entry of A B varies as one of VPT's uniform prompts does.
    """

    summary = "low-rank prompt tokens at every block (50 tokens of rank 8)"
    source = "Alkhunaizi et al., 2024 (arXiv 2407.11573)"
    learning_rate = 1e-2
    averaging = "factors"
    starts_frozen = False
    options: DecomposedPromptOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        transformer, options = as_transformer(backbone), self.options
        around = PromptedBlock if options.deep else PromptedEmbedding
        exchanged: dict[str, nn.Parameter] = {}
        for place in transformer.places("block" if options.deep else "embed"):
            a, b = f"{place.key}.prompts_A", f"{place.key}.prompts_B"
            source = self._prompts(transformer, init, a, b)
            inserted = InsertPrompts(source, nn.Identity(), options.dropout, transformer.prefix_tokens)
            place.wrap(partial(around, prompts=inserted))
            exchanged |= {a: source.a, b: source.b}
        return exchanged

    def _prompts(self, backbone: Transformer, init: Initialiser, a: str, b: str) -> FactoredPrompts:
        rank, width = self.options.rank, backbone.hidden_size
        variance = prompt_bound(backbone, width) ** 2 / 3  # of VPT's uniform prompts
        std = (variance / rank) ** 0.25  # an entry of A B sums r products of variance std^4
        return FactoredPrompts(init.normal(a, self.options.tokens, rank, std=std), init.normal(b, rank, width, std=std))
