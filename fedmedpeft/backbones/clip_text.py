"""CLIP's text tower from input embeddings on, so that learned vectors can stand where words do."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import normalize
from transformers import CLIPModel


class TextTower(nn.Module):
    """Frozen; always in evaluation mode. It is no place: no method inserts into it, and ``full`` leaves it alone.

    Args:
        model: the published pair, whose modules are taken over, not copied.
    """

    def __init__(self, model: CLIPModel) -> None:
        super().__init__()
        published = model.text_model
        self.token_embedding: nn.Embedding = published.embeddings.token_embedding
        self.position: nn.Parameter = published.embeddings.position_embedding.weight
        self.blocks: nn.ModuleList = published.encoder.layers
        self.norm: nn.LayerNorm = published.final_layer_norm
        self.projection: nn.Linear = model.text_projection
        self.logit_scale: nn.Parameter = model.logit_scale
        self.requires_grad_(False)
        self.eval()

    @property
    def width(self) -> int:
        """Width d_t of an embedding."""
        return self.token_embedding.embedding_dim

    @property
    def positions(self) -> int:
        """The most tokens that a text may have, those around it included."""
        return len(self.position)

    def forward(self, embeddings: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """Token embeddings [C, T, d_t] and the positions [C] of their end tokens -> features [C, p], of length one.

        Attention is causal: what stands behind an end token (padding) makes no difference.
        """
        hidden = embeddings + self.position[: embeddings.shape[1]]
        for block in self.blocks:
            hidden = block(hidden, None, is_causal=True)
        rows = torch.arange(len(ends), device=ends.device)
        features: torch.Tensor = self.projection(self.norm(hidden)[rows, ends])
        return normalize(features, dim=-1)

    def train(self, mode: bool = True) -> TextTower:
        """Stays in evaluation mode, whoever holds it."""
        super().train(False)
        return self
