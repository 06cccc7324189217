"""BERT and RoBERTa as text towers: embedding and post-norm blocks under this project's roles."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from fedmedpeft.backbones.architecture import TextArchitecture
from fedmedpeft.backbones.backbone import Part, Place
from fedmedpeft.backbones.post_norm import PostNormBlock
from fedmedpeft.text import Text


class WordEmbedding(nn.Module):
    """Token ids [B, T] -> word + position (+ type 0), [B, T, d].

    RoBERTa counts positions from the padding's id on and skips padding; BERT counts from 0.
    """

    def __init__(self, architecture: TextArchitecture) -> None:
        super().__init__()
        width = architecture.hidden_size
        self.word = nn.Embedding(architecture.vocabulary, width)
        self.position = nn.Embedding(architecture.positions, width)
        self.token_type = nn.Embedding(architecture.types, width) if architecture.types else None
        self.padding = architecture.padding
        self.counts_from_padding = architecture.model == "roberta"

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.word(ids)
        if self.token_type is not None:
            embedded = embedded + self.token_type(torch.zeros_like(ids))
        embedded = embedded + self.position(self._positions(ids))
        return embedded

    def _positions(self, ids: torch.Tensor) -> torch.Tensor:
        if not self.counts_from_padding:
            return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        tokens = (ids != self.padding).long()
        return torch.cumsum(tokens, dim=1) * tokens + self.padding


class TextEncoder(nn.Module):
    """A text to the states of its tokens.

    Args:
        architecture: sizes.
        context_width: width of the tokens that each block's cross-attention reads; 0: it has none.
        causal: whether a token sees only itself and those before it (decoders).
    """

    def __init__(self, architecture: TextArchitecture, *, context_width: int = 0, causal: bool = False) -> None:
        super().__init__()
        self.architecture = architecture
        width, eps = architecture.hidden_size, architecture.layer_norm_eps
        self.embed: nn.Module = WordEmbedding(architecture)
        self.norm_pre: nn.Module = nn.LayerNorm(width, eps=eps)
        self.blocks = nn.ModuleList(
            PostNormBlock(
                width=width,
                heads=architecture.heads,
                ffn_size=architecture.ffn_size,
                activation=architecture.activation,
                eps=eps,
                context_width=context_width,
                causal=causal,
            )
            for _ in range(architecture.depth)
        )

    def forward(
        self, text: Text, context: torch.Tensor | None = None, context_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tokens [B, T] -> states [B, T, d], of padding too."""
        states: torch.Tensor = self.norm_pre(self.embed(text.ids))
        for block in self.blocks:
            states = block(states, text.mask, context, context_mask)
        return states

    def places(self, prefix: str, part: Part) -> Iterator[Place]:
        """All of it; ask before anything is inserted."""
        width = self.architecture.hidden_size
        yield Place("word_embed", f"{prefix}.embed", self, "embed", self.embed, width=width, part=part)
        yield Place("norm_pre", f"{prefix}.norm_pre", self, "norm_pre", self.norm_pre, width=width, part=part)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, PostNormBlock)
            key = f"{prefix}.blocks.{index}"
            yield Place("block", key, self.blocks, str(index), block, width=width, part=part)
            yield from block.places(key, part)
