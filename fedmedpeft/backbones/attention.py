"""Multi-head attention over four projections that stay modules of their own, so that methods can wrap each of them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention


class MultiHeadAttention(nn.Module):
    """``o(softmax(q k^T / sqrt(d / heads)) v)`` in torch's fused kernel (Vaswani et al., NeurIPS 2017).

    Args:
        q, k, v, o: projections [..., d_in] -> [..., d].
        heads: number of heads.
        causal: whether a position sees only itself and those before it.
    """

    def __init__(
        self, q: nn.Module, k: nn.Module, v: nn.Module, o: nn.Module, heads: int, *, causal: bool = False
    ) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = q, k, v, o
        self.heads, self.causal = heads, causal

    def forward(
        self, x: torch.Tensor, context: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attend from ``x`` [B, T, d] to ``context`` [B, S, d_c], or to ``x`` itself.

        Args:
            mask: bool [B, S], True for what may be seen; None: all. Keys in front of the context (a prefix) always may.
        """
        source = x if context is None else context
        queries, keys, values = self._split(self.q(x)), self._split(self.k(source)), self._split(self.v(source))
        seen = self._seen(mask, queries.shape[2], keys.shape[2])
        attended = scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        output: torch.Tensor = self.o(attended.transpose(1, 2).flatten(2))
        return output

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, d] -> [B, heads, T, d / heads]."""
        heads: torch.Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads

    def _seen(self, mask: torch.Tensor | None, queries: int, keys: int) -> torch.Tensor | None:
        """bool, broadcast to [B, heads, queries, keys]; None where everything is seen."""
        seen = None if mask is None else pad(mask, (keys - mask.shape[1], 0), value=True)[:, None, None, :]
        if not self.causal:
            return seen
        device = self.q_device if seen is None else seen.device
        before = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
        return before if seen is None else seen & before

    @property
    def q_device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.q.parameters()).device
