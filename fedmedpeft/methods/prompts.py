"""Learned tokens between the class token and the patches: what all visual prompt methods share."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import dropout

from fedmedpeft.backbones import Inserted, Transformer
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import MethodOptions
from fedmedpeft.methods.shared_module import Lent

VPT = "Jia et al., Visual Prompt Tuning, ECCV 2022 (arXiv 2203.12119)"


class PromptOptions(MethodOptions):
    """Options of ``vpt-shallow`` and ``vpt-deep``."""

    tokens: int = Field(10, ge=1, description="prompt tokens (per block in vpt-deep)")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the prompts, while training")
    project: int = Field(
        0, ge=0, description="width of the prompts before a linear projection that all share; 0: no projection"
    )


class PromptTokens(Inserted):
    """The prompts [T, k] themselves, once for each record: tokens [B, ...] -> [B, T, k]."""

    def __init__(self, prompts: nn.Parameter) -> None:
        super().__init__()
        self.prompts = prompts

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.prompts.expand(len(tokens), -1, -1)


class InsertPrompts(Inserted):
    """[B, P + N, d] -> [B, P + T + N, d]: projected prompts after the first P tokens, without a position.

    Args:
        source: tokens -> prompts [B, T, k].
        projection: [B, T, k] -> [B, T, d]; lent where several blocks share it.
        drop: share of the prompts' entries that is zero in training, drawn for each record (the paper's code draws
            once per batch).
        prefix: P, the tokens that stay in front.
    """

    def __init__(self, source: nn.Module, projection: nn.Module | Lent, drop: float, prefix: int) -> None:
        super().__init__()
        self.source, self.projection = source, projection
        self.drop, self.prefix = drop, prefix

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        # Detached: hooks for per-record gradients would wait for a gradient of the tokens, which prompts give none.
        source = self.source(tokens.detach())
        prompts = dropout(self.projection(source), self.drop, self.training)
        return torch.cat([tokens[:, : self.prefix], prompts, tokens[:, self.prefix :]], dim=1)


class PromptedEmbedding(Inserted):
    """The embedding followed by prompts, which then pass through all blocks."""

    def __init__(self, base: nn.Module, prompts: InsertPrompts) -> None:
        super().__init__()
        self.base, self.prompts = base, prompts

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.prompts(self.base(pixels))
        return tokens


class PromptedBlock(Inserted):
    """Insert prompts, run the block, drop their outputs: the next block gets fresh ones, as in VPT-deep."""

    def __init__(self, base: nn.Module, prompts: InsertPrompts) -> None:
        super().__init__()
        self.base, self.prompts = base, prompts

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        prompted: torch.Tensor = self.prompts(tokens)
        output: torch.Tensor = self.base(prompted)
        first, inserted = self.prompts.prefix, prompted.shape[1] - tokens.shape[1]
        return torch.cat([output[:, :first], output[:, first + inserted :]], dim=1)


def prompt_bound(backbone: Transformer, width: int) -> float:
    """Prompts of this width start uniform in +- sqrt(6 / (3 p^2 + width)), p the patch's side, as in VPT's code."""
    return float((6 / (3 * backbone.patch_size**2 + width)) ** 0.5)


def new_prompts(backbone: Transformer, options: PromptOptions, init: Initialiser, key: str) -> PromptTokens:
    """Prompts as wide as the tokens, or as ``options.project``, with values drawn under ``key``."""
    width = options.project or backbone.hidden_size
    return PromptTokens(init.uniform(key, options.tokens, width, bound=prompt_bound(backbone, width)))


def new_projection(backbone: Transformer, options: PromptOptions, init: Initialiser, key: str) -> nn.Module:
    """Prompts to the width of the tokens: Kaiming-normal weight over its outputs and zero bias, as in VPT's code."""
    if not options.project:
        return nn.Identity()
    width = backbone.hidden_size
    return init.linear(key, options.project, width, std=(2 / width) ** 0.5)
