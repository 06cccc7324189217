"""Post-norm blocks, as in BERT: every sub-layer is ``norm(x + f(x))``. Text towers, co-attention and decoders."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from transformers.activations import ACT2FN

from fedmedpeft.backbones.attention import MultiHeadAttention
from fedmedpeft.backbones.backbone import Inserted, Part, Place, Role


class SelfAttentionSublayer(nn.Module):
    """x -> norm(x + attention(x, x)); ``mask`` [B, T] says which tokens are seen."""

    def __init__(self, norm: nn.Module, attention: MultiHeadAttention) -> None:
        super().__init__()
        self.norm, self.attention = norm, attention

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        output: torch.Tensor = self.norm(self.attention(x, None, mask) + x)
        return output


class CrossAttentionSublayer(nn.Module):
    """x, context -> norm(x + attention(x, context)); ``mask`` [B, S] says which tokens of the context are seen."""

    def __init__(self, norm: nn.Module, attention: MultiHeadAttention) -> None:
        super().__init__()
        self.norm, self.attention = norm, attention

    def forward(self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        output: torch.Tensor = self.norm(self.attention(x, context, mask) + x)
        return output


class FeedForwardSublayer(nn.Module):
    """x -> norm(x + ffn_out(activation(ffn_in(x))))."""

    def __init__(self, norm: nn.Module, ffn_in: nn.Module, ffn_out: nn.Module, activation: str) -> None:
        super().__init__()
        self.norm, self.ffn_in, self.ffn_out = norm, ffn_in, ffn_out
        self.activation = ACT2FN[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.norm(self.ffn_out(self.activation(self.ffn_in(x))) + x)
        return output


class PostNormBlock(nn.Module):
    """Self-attention, cross-attention where it has a context, feed-forward network.

    Args:
        width: d of its tokens.
        heads: of every attention.
        ffn_size: inner width of the feed-forward network.
        activation: of the feed-forward network, by its name in transformers.
        eps: of every LayerNorm.
        context_width: width of the context's tokens; 0: it has none, and no cross-attention.
        causal: whether a token sees only itself and those before it.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        ffn_size: int,
        activation: str,
        eps: float,
        context_width: int = 0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.width = width
        own = _attention(width, width, heads, causal=causal)
        self.attention: nn.Module = SelfAttentionSublayer(nn.LayerNorm(width, eps=eps), own)
        self.cross: nn.Module | None = None
        if context_width:
            other = _attention(width, context_width, heads, causal=False)
            self.cross = CrossAttentionSublayer(nn.LayerNorm(width, eps=eps), other)
        ffn_in, ffn_out = nn.Linear(width, ffn_size), nn.Linear(ffn_size, width)
        self.ffn: nn.Module = FeedForwardSublayer(nn.LayerNorm(width, eps=eps), ffn_in, ffn_out, activation)

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        context: torch.Tensor | None = None,
        context_mask: torch.Tensor | None = None,
        knowledge: torch.Tensor | None = None,
        knowledge_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Tokens [B, T, d] -> tokens [B, T, d].

        Knowledge [B, K, d] is read by a second call of the cross-attention without what methods put around that
        sub-layer: the parameter-free fusion of KPL-METER (Liang et al., J Biomed Inform 2025).
        """
        x = self.attention(x, mask)
        if self.cross is not None:
            x = self.cross(x, context, context_mask)
            if knowledge is not None:
                x = _bare(self.cross)(x, knowledge, knowledge_mask)
        output: torch.Tensor = self.ffn(x)
        return output

    def places(self, key: str, part: Part) -> Iterator[Place]:
        """Its sub-layers, norms and projections, below ``key``; ask before anything is inserted."""
        attention, cross, ffn = self.attention, self.cross, self.ffn
        assert isinstance(attention, SelfAttentionSublayer)
        assert isinstance(ffn, FeedForwardSublayer)

        def place(role: Role, name: str, owner: nn.Module, attribute: str) -> Place:
            return Place(
                role, f"{key}.{name}", owner, attribute, getattr(owner, attribute), width=self.width, part=part
            )

        yield place("attention", "attention", self, "attention")
        yield place("norm1", "norm1", attention, "norm")
        yield from (place(role, role, attention.attention, role) for role in _PROJECTIONS)
        if cross is not None:
            assert isinstance(cross, CrossAttentionSublayer)
            yield place("cross", "cross", self, "cross")
            yield place("norm_cross", "cross.norm", cross, "norm")
            yield from (place(role, f"cross.{role}", cross.attention, role) for role in _PROJECTIONS)
        yield place("ffn", "ffn", self, "ffn")
        yield place("norm2", "norm2", ffn, "norm")
        yield place("ffn_in", "ffn_in", ffn, "ffn_in")
        yield place("ffn_out", "ffn_out", ffn, "ffn_out")


_PROJECTIONS: tuple[Role, ...] = ("q", "k", "v", "o")


def _bare(sublayer: nn.Module) -> nn.Module:
    """The frozen sub-layer below what methods put around it."""
    while isinstance(sublayer, Inserted):
        sublayer = sublayer.base
    return sublayer


def _attention(width: int, context_width: int, heads: int, *, causal: bool) -> MultiHeadAttention:
    return MultiHeadAttention(
        nn.Linear(width, width),
        nn.Linear(context_width, width),
        nn.Linear(context_width, width),
        nn.Linear(width, width),
        heads,
        causal=causal,
    )
