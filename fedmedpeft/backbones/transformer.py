"""Pre-norm vision transformers from published modules: one forward pass, and the same places, for ViT and CLIP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fedmedpeft.backbones.attention import MultiHeadAttention
from fedmedpeft.backbones.backbone import Backbone, MissingPlace, Place, Role
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.text import Text


class PatchProjection(nn.Module):
    """Pixels [B, 3, S, S] -> patch tokens [B, N, d], by a convolution whose stride is its kernel."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.convolution(pixels)
        return tokens.flatten(2).transpose(1, 2)


class TokenEmbedding(nn.Module):
    """Pixels -> class token and patch tokens with their positions, [B, 1 + N, d]."""

    def __init__(self, convolution: nn.Module, class_token: nn.Parameter, position: nn.Parameter) -> None:
        super().__init__()
        self.patch = PatchProjection(convolution)
        self.class_token = class_token
        self.position = position

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch(pixels)
        count, _, width = patches.shape
        tokens = torch.cat([self.class_token.view(1, 1, width).expand(count, 1, width), patches], dim=1)
        return tokens + self.position.view(1, -1, width)


class AttentionSublayer(nn.Module):
    """x -> x + attention(norm(x))."""

    def __init__(self, norm: nn.Module, attention: MultiHeadAttention) -> None:
        super().__init__()
        self.norm, self.attention = norm, attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attended: torch.Tensor = self.attention(self.norm(x))
        return attended + x


class FeedForwardSublayer(nn.Module):
    """x -> x + ffn(norm(x))."""

    def __init__(self, norm: nn.Module, ffn: nn.Module) -> None:
        super().__init__()
        self.norm, self.ffn = norm, ffn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.ffn(self.norm(x))
        return output + x


class Block(nn.Module):
    """Tokens [B, T, d] -> tokens [B, T, d]."""

    def __init__(self, attention: AttentionSublayer, ffn: FeedForwardSublayer) -> None:
        super().__init__()
        self.attention, self.ffn = attention, ffn

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.ffn(self.attention(tokens))
        return output


class Readout(nn.Module):
    """Tokens [B, T, d] -> feature: the class token (the first), normalised and projected."""

    def __init__(self, norm: nn.Module, projection: nn.Module | None) -> None:
        super().__init__()
        self.norm = norm
        self.projection = projection or nn.Identity()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        feature: torch.Tensor = self.projection(self.norm(tokens[:, 0]))
        return feature


class TokenReadout(nn.Module):
    """Tokens [B, T, d] -> all of them, normalised: for a tower whose tokens another network reads."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.norm(tokens)
        return states


@dataclass(frozen=True)
class BlockNames:
    """Where the modules of a block are in a published implementation: role to path below the block."""

    ffn: str
    roles: Mapping[Role, str]


class Transformer(Backbone):
    """Embedding, blocks, readout.

    Args:
        record: architecture and preprocessing.
        embed: pixels to tokens, class token first.
        norm_pre: between embedding and blocks; None where there is none.
        blocks: published blocks; their attention, feed-forward network and norms are taken over.
        names: where these are in a block.
        readout: tokens to feature, or to the tokens that another network reads.
        published: the published model, for the names of its parameters.
        fingerprint: of the weights.
        prefix: in front of the keys of its places, where it is a part of another backbone.
    """

    prefix_tokens = 1

    def __init__(
        self,
        record: BackboneRecord,
        *,
        embed: TokenEmbedding,
        blocks: Sequence[nn.Module],
        names: BlockNames,
        readout: Readout | TokenReadout,
        published: nn.Module,
        norm_pre: nn.Module | None = None,
        fingerprint: str = "",
        prefix: str = "",
    ) -> None:
        super().__init__(record, fingerprint)
        self.prefix = prefix
        self.embed = embed
        self.norm_pre = norm_pre or nn.Identity()
        self.blocks = nn.ModuleList(_block(block, names, self._heads) for block in blocks)
        self.readout = readout
        places = [*self._outer_places(), *self._block_places(blocks, names), *self._readout_places()]
        self.freeze(places, self._expected(), published)

    @property
    def hidden_size(self) -> int:
        """Width of the tokens."""
        size: int = self.record.architecture.hidden_size  # type: ignore[union-attr]
        return size

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        size: int = self.record.architecture.patch_size  # type: ignore[union-attr]
        return size

    @property
    def image_transformer(self) -> Transformer | None:
        return self if self.sees("vision") else None

    @property
    def _heads(self) -> int:
        heads: int = self.record.architecture.heads  # type: ignore[union-attr]
        return heads

    def forward(self, pixels: torch.Tensor, text: Text | None = None, knowledge: Text | None = None) -> torch.Tensor:
        """Normalised pixels [B, 3, S, S] -> feature [B, d], or tokens [B, T, d] with a :class:`TokenReadout`."""
        self.refuse_texts(text, knowledge)
        tokens = self.norm_pre(self.embed(pixels))
        for block in self.blocks:
            tokens = block(tokens)
        feature: torch.Tensor = self.readout(tokens)
        return feature

    def _expected(self) -> dict[Role, int]:
        once: list[Role] = ["embed", "patch", "norm"]
        once += ["norm_pre"] if not isinstance(self.norm_pre, nn.Identity) else []
        if isinstance(self.readout, Readout):
            once += ["readout"]
            once += ["projection"] if not isinstance(self.readout.projection, nn.Identity) else []
        in_block: list[Role] = ["block", "attention", "norm1", "q", "k", "v", "o", "ffn", "norm2", "ffn_in", "ffn_out"]
        return dict.fromkeys(once, 1) | dict.fromkeys(in_block, len(self.blocks))

    def _place(self, role: Role, key: str, owner: nn.Module, attribute: str) -> Place:
        original = getattr(owner, attribute)
        return Place(role, f"{self.prefix}{key}", owner, attribute, original, width=self.hidden_size)

    def _outer_places(self) -> Iterator[Place]:
        yield self._place("embed", "embed", self, "embed")
        yield self._place("patch", "embed.patch", self.embed, "patch")
        if not isinstance(self.norm_pre, nn.Identity):
            yield self._place("norm_pre", "norm_pre", self, "norm_pre")

    def _block_places(self, originals: Sequence[nn.Module], names: BlockNames) -> Iterator[Place]:
        for index, (original, block) in enumerate(zip(originals, self.blocks, strict=True)):
            assert isinstance(block, Block)
            key = f"blocks.{index}"
            yield self._place("block", key, self.blocks, str(index))
            yield self._place("attention", f"{key}.attention", block, "attention")
            yield self._place("norm1", f"{key}.norm1", block.attention, "norm")
            for role in _PROJECTIONS:
                yield self._place(role, f"{key}.{role}", block.attention.attention, role)
            yield self._place("ffn", f"{key}.ffn", block, "ffn")
            yield self._place("norm2", f"{key}.norm2", block.ffn, "norm")
            for role in _FFN:
                path, _, attribute = names.roles[role].rpartition(".")
                yield self._place(role, f"{key}.{role}", original.get_submodule(path), attribute)

    def _readout_places(self) -> Iterator[Place]:
        if isinstance(self.readout, Readout):
            yield self._place("readout", "readout", self, "readout")
        yield self._place("norm", "norm", self.readout, "norm")
        if isinstance(self.readout, Readout) and not isinstance(self.readout.projection, nn.Identity):
            yield self._place("projection", "projection", self.readout, "projection")


_PROJECTIONS: tuple[Role, ...] = ("q", "k", "v", "o")
_FFN: tuple[Role, ...] = ("ffn_in", "ffn_out")


def as_transformer(backbone: Backbone) -> Transformer:
    """The transformer that reads the image, for methods that act on its tokens. Raises MissingPlace without one."""
    transformer = backbone.image_transformer
    if transformer is None:
        raise MissingPlace("image tokens")
    return transformer


def _block(block: nn.Module, names: BlockNames, heads: int) -> Block:
    get = block.get_submodule
    q, k, v, o = (get(names.roles[role]) for role in _PROJECTIONS)
    return Block(
        AttentionSublayer(get(names.roles["norm1"]), MultiHeadAttention(q, k, v, o, heads)),
        FeedForwardSublayer(get(names.roles["norm2"]), get(names.ffn)),
    )
