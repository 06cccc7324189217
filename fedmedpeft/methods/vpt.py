"""Visual prompt tuning: learnable tokens between the class token and the patches."""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import dropout

from fedmedpeft.backbones import Backbone, Inserted, as_transformer
from fedmedpeft.components import Options
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, register_method

_SOURCE = "Jia et al., Visual Prompt Tuning, ECCV 2022 (arXiv 2203.12119)"


class PromptOptions(Options):
    """Options of ``vpt-shallow`` and ``vpt-deep``."""

    tokens: int = Field(10, ge=1, description="prompt tokens (per block in vpt-deep)")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the prompts, while training")


class PromptTokens(Inserted):
    """Inserts its T prompts [T, d] after the class token: [B, 1 + N, d] -> [B, 1 + T + N, d]."""

    def __init__(self, prompts: nn.Parameter, drop: float, position: int) -> None:
        super().__init__()
        self.prompts = prompts
        self.drop, self.position = drop, position

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        prompts = dropout(self.prompts.expand(len(tokens), -1, -1), self.drop, self.training)
        return torch.cat([tokens[:, : self.position], prompts, tokens[:, self.position :]], dim=1)


class PromptedEmbedding(Inserted):
    """The embedding followed by prompts, which then pass through all blocks."""

    def __init__(self, base: nn.Module, prompts: PromptTokens) -> None:
        super().__init__()
        self.base, self.prompts = base, prompts

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.prompts(self.base(pixels))
        return tokens


class PromptedBlock(Inserted):
    """Insert prompts, run the block, drop their outputs: the next block gets fresh ones, as in VPT-deep."""

    def __init__(self, base: nn.Module, prompts: PromptTokens) -> None:
        super().__init__()
        self.base, self.prompts = base, prompts

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.base(self.prompts(tokens))
        first, inserted = self.prompts.position, len(self.prompts.prompts)
        return torch.cat([output[:, :first], output[:, first + inserted :]], dim=1)


class _VisualPrompts(Method):
    source = _SOURCE
    learning_rate = 1e-2
    starts_frozen = False
    options: PromptOptions

    def _prompts(self, backbone: Backbone, init: Initialiser, key: str) -> PromptTokens:
        """Uniform in +-sqrt(6 / (3 p^2 + d)), as in the paper's code."""
        transformer = as_transformer(backbone)
        width, patch = transformer.hidden_size, transformer.patch_size
        bound = (6 / (3 * patch**2 + width)) ** 0.5
        prompts = init.uniform(key, self.options.tokens, width, bound=bound)
        return PromptTokens(prompts, self.options.dropout, transformer.prefix_tokens)


@register_method("vpt-shallow", PromptOptions)
class VptShallow(_VisualPrompts):
    """Prompts at the input of the first block only."""

    summary = "learnable prompt tokens at the input (10 tokens)"

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        (place,) = backbone.places("embed")
        key = f"{place.key}.prompts"
        prompts = self._prompts(backbone, init, key)
        place.wrap(partial(PromptedEmbedding, prompts=prompts))
        return {key: prompts.prompts}


@register_method("vpt-deep", PromptOptions)
class VptDeep(_VisualPrompts):
    """Fresh prompts at the input of every block."""

    summary = "learnable prompt tokens at every block (10 tokens each)"

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        exchanged: dict[str, nn.Parameter] = {}
        for place in backbone.places("block"):
            key = f"{place.key}.prompts"
            prompts = self._prompts(backbone, init, key)
            place.wrap(partial(PromptedBlock, prompts=prompts))
            exchanged[key] = prompts.prompts
        return exchanged
