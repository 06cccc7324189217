"""METER: an image tower, a text tower, and co-attention layers that read both (Dou et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fedmedpeft.backbones.architecture import ClipArchitecture, MeterArchitecture, ViTArchitecture
from fedmedpeft.backbones.backbone import Backbone, Place, Role
from fedmedpeft.backbones.post_norm import PostNormBlock
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.backbones.text_encoder import TextEncoder
from fedmedpeft.backbones.transformer import Transformer
from fedmedpeft.text import Text

TEXT, IMAGE = 0, 1
"""Rows of the type embedding."""


class CoAttention(nn.Module):
    """One depth of the fusion: both modalities read each other as they came in, neither sees the other's update."""

    def __init__(self, architecture: MeterArchitecture) -> None:
        super().__init__()
        self.text, self.image = (
            PostNormBlock(
                width=architecture.hidden_size,
                heads=architecture.heads,
                ffn_size=architecture.ffn_size,
                activation="gelu",
                eps=architecture.layer_norm_eps,
                context_width=architecture.hidden_size,
            )
            for _ in range(2)
        )

    def forward(
        self,
        words: torch.Tensor,
        image: torch.Tensor,
        mask: torch.Tensor,
        knowledge: torch.Tensor | None,
        knowledge_mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Words [B, T, d] and image tokens [B, S, d], each updated by the other and by knowledge [B, K, d]."""
        return (
            self.text(words, mask, image, None, knowledge, knowledge_mask),
            self.image(image, None, words, mask, knowledge, knowledge_mask),
        )


class Fusion(nn.Module):
    """What stands on the two towers; the part of METER whose weights no tower brings.

    Args:
        architecture: sizes.
    """

    def __init__(self, architecture: MeterArchitecture) -> None:
        super().__init__()
        width = architecture.hidden_size
        self.text_transform: nn.Module = nn.Linear(architecture.text.hidden_size, width)
        self.image_transform: nn.Module = nn.Linear(architecture.vision.hidden_size, width)
        self.type_embed: nn.Module = nn.Embedding(2, width)
        self.layers = nn.ModuleList(CoAttention(architecture) for _ in range(architecture.depth))
        self.text_pooler: nn.Module = nn.Linear(width, width)
        self.image_pooler: nn.Module = nn.Linear(width, width)


class Meter(Backbone):
    """Pixels and a text to the pooled text beside the pooled image, [B, 2 d].

    Knowledge, where there is some, is encoded by the text tower without what methods put into it, and takes no
    gradient (Liang et al., KPL-METER, J Biomed Inform 2025): it is the same whatever training does, unless a method
    trains the tower's own parameters, which are then read as they are.

    Args:
        record: architecture and preprocessing.
        vision: gives all its tokens, normalised; its places begin with ``vision.``.
        text: the text tower.
        fusion: what stands on both.
        fingerprint: of all weights.
    """

    def __init__(
        self, record: BackboneRecord, *, vision: Transformer, text: TextEncoder, fusion: Fusion, fingerprint: str = ""
    ) -> None:
        super().__init__(record, fingerprint)
        self.vision, self.text, self.fusion = vision, text, fusion
        self._text_places = tuple(text.places("text", "text"))
        self.freeze([*vision.every_place(), *self._text_places, *self._fusion_places()], self._expected(), None)

    @property
    def architecture(self) -> MeterArchitecture:
        """Sizes."""
        assert isinstance(self.record.architecture, MeterArchitecture)
        return self.record.architecture

    @property
    def text_length(self) -> int:
        return self.architecture.text_length

    @property
    def image_transformer(self) -> Transformer | None:
        return self.vision if self.sees("vision") else None

    def forward(self, pixels: torch.Tensor, text: Text | None = None, knowledge: Text | None = None) -> torch.Tensor:
        """Normalised pixels [B, 3, S, S] and texts [B, T] -> feature [B, 2 d]; knowledge [B, K] is read beside them.

        Raises:
            ValueError: no text.
        """
        if text is None:
            raise ValueError(f"Backbone '{self.record.name}' reads an image and a text; there is no text.")
        known = None if knowledge is None else self.encode_knowledge(knowledge)
        mask = None if knowledge is None else knowledge.mask
        return self.fuse(self.vision(pixels), self.text(text), text.mask, known, mask)

    @torch.no_grad()
    def encode_knowledge(self, knowledge: Text) -> torch.Tensor:
        """Texts [B, K] -> states [B, K, d_t] of the text tower with nothing inserted."""
        with self._text_without_insertions():
            states: torch.Tensor = self.text(knowledge)
        return states

    def fuse(
        self,
        image: torch.Tensor,
        words: torch.Tensor,
        mask: torch.Tensor,
        knowledge: torch.Tensor | None = None,
        knowledge_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the towers gave -> feature [B, 2 d].

        Towers that no method changes may be asked once and their outputs kept.

        Args:
            image: [B, S, d_v].
            words: [B, T, d_t].
            mask: bool [B, T].
            knowledge: [B, K, d_t].
            knowledge_mask: bool [B, K].
        """
        fusion = self.fusion
        # One row of it for each record: per-record gradients need the batch first, here too.
        kinds = fusion.type_embed(torch.tensor([[TEXT, IMAGE]], device=image.device).expand(len(image), 2))
        words = fusion.text_transform(words) + kinds[:, TEXT, None]
        image = fusion.image_transform(image) + kinds[:, IMAGE, None]
        if knowledge is not None:
            with torch.no_grad():
                knowledge = fusion.text_transform(knowledge) + kinds[:, TEXT, None]
        for layer in fusion.layers:
            words, image = layer(words, image, mask, knowledge, knowledge_mask)
        pooled = fusion.text_pooler(words[:, 0]), fusion.image_pooler(image[:, 0])
        return torch.cat(pooled, dim=1).tanh()

    @contextmanager
    def _text_without_insertions(self) -> Iterator[None]:
        """Until it ends, nothing that was inserted into the text tower is there."""
        inserted = [(place, place.current) for place in self._text_places]
        try:
            for place, _ in inserted:
                setattr(place.owner, place.attribute, place.original)
            yield
        finally:
            for place, module in inserted:
                setattr(place.owner, place.attribute, module)

    def _fusion_places(self) -> Iterator[Place]:
        fusion, width = self.fusion, self.architecture.hidden_size

        def place(role: Role, key: str, owner: nn.Module, attribute: str) -> Place:
            return Place(role, f"fusion.{key}", owner, attribute, getattr(owner, attribute), width=width, part="fusion")

        yield place("transform", "text_transform", fusion, "text_transform")
        yield place("transform", "image_transform", fusion, "image_transform")
        yield place("type_embed", "type_embed", fusion, "type_embed")
        for index, layer in enumerate(fusion.layers):
            assert isinstance(layer, CoAttention)
            yield place("block", str(index), fusion.layers, str(index))
            yield from layer.text.places(f"fusion.{index}.text", "fusion")
            yield from layer.image.places(f"fusion.{index}.image", "fusion")
        yield place("pooler", "text_pooler", fusion, "text_pooler")
        yield place("pooler", "image_pooler", fusion, "image_pooler")

    def _expected(self) -> dict[Role, int]:
        sizes = self.architecture
        assert isinstance(sizes.vision, ViTArchitecture | ClipArchitecture)
        towers, layers = sizes.vision.depth + sizes.text.depth, 2 * sizes.depth
        expected: dict[Role, int] = {
            "embed": 1,
            "patch": 1,
            "norm": 1,
            "word_embed": 1,
            "transform": 2,
            "type_embed": 1,
        }
        expected |= {"norm_pre": 1 + (sizes.vision.family == "clip"), "pooler": 2, "block": towers + sizes.depth}
        expected |= dict.fromkeys(("q", "k", "v", "o"), towers + 2 * layers)
        expected |= dict.fromkeys(("cross", "norm_cross"), layers)
        return expected | dict.fromkeys(("attention", "norm1", "ffn", "norm2", "ffn_in", "ffn_out"), towers + layers)
