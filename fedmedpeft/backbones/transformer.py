"""Pre-norm vision transformers from published modules: one forward pass, and the same places, for ViT and CLIP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fedmedpeft.backbones.backbone import Backbone, MissingPlace, Place, Role
from fedmedpeft.backbones.record import BackboneRecord


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

    def __init__(self, norm: nn.Module, attention: nn.Module) -> None:
        super().__init__()
        self.norm, self.attention = norm, attention

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attended: torch.Tensor = self.attention(self.norm(x))[0]
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


@dataclass(frozen=True)
class BlockNames:
    """Where the modules of a block are in a published implementation: role to path below the block."""

    attention: str
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
        readout: tokens to feature.
        published: the published model, for the names of its parameters.
        fingerprint: of the weights.
    """

    prefix_tokens = 1

    def __init__(
        self,
        record: BackboneRecord,
        *,
        embed: TokenEmbedding,
        blocks: Sequence[nn.Module],
        names: BlockNames,
        readout: Readout,
        published: nn.Module,
        norm_pre: nn.Module | None = None,
        fingerprint: str = "",
    ) -> None:
        super().__init__(record, fingerprint)
        self.embed = embed
        self.norm_pre = norm_pre or nn.Identity()
        self.blocks = nn.ModuleList(_block(block, names) for block in blocks)
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

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.norm_pre(self.embed(pixels))
        for block in self.blocks:
            tokens = block(tokens)
        feature: torch.Tensor = self.readout(tokens)
        return feature

    def _expected(self) -> dict[Role, int]:
        once: list[Role] = ["embed", "patch", "readout", "norm"]
        once += ["norm_pre"] if not isinstance(self.norm_pre, nn.Identity) else []
        once += ["projection"] if not isinstance(self.readout.projection, nn.Identity) else []
        in_block: list[Role] = ["block", "attention", "norm1", "q", "k", "v", "o", "ffn", "norm2", "ffn_in", "ffn_out"]
        return dict.fromkeys(once, 1) | dict.fromkeys(in_block, len(self.blocks))

    def _outer_places(self) -> Iterator[Place]:
        yield Place("embed", "embed", self, "embed", self.embed)
        yield Place("patch", "embed.patch", self.embed, "patch", self.embed.patch)
        if not isinstance(self.norm_pre, nn.Identity):
            yield Place("norm_pre", "norm_pre", self, "norm_pre", self.norm_pre)

    def _block_places(self, originals: Sequence[nn.Module], names: BlockNames) -> Iterator[Place]:
        for index, (original, block) in enumerate(zip(originals, self.blocks, strict=True)):
            assert isinstance(block, Block)
            key = f"blocks.{index}"
            yield Place("block", key, self.blocks, str(index), block)
            yield Place("attention", f"{key}.attention", block, "attention", block.attention)
            yield Place("norm1", f"{key}.norm1", block.attention, "norm", block.attention.norm)
            yield from _projections(key, original, names, ("q", "k", "v", "o"))
            yield Place("ffn", f"{key}.ffn", block, "ffn", block.ffn)
            yield Place("norm2", f"{key}.norm2", block.ffn, "norm", block.ffn.norm)
            yield from _projections(key, original, names, ("ffn_in", "ffn_out"))

    def _readout_places(self) -> Iterator[Place]:
        yield Place("readout", "readout", self, "readout", self.readout)
        yield Place("norm", "norm", self.readout, "norm", self.readout.norm)
        if not isinstance(self.readout.projection, nn.Identity):
            yield Place("projection", "projection", self.readout, "projection", self.readout.projection)


def as_transformer(backbone: Backbone) -> Transformer:
    """For methods that act on tokens. Raises MissingPlace where the backbone has none."""
    if not isinstance(backbone, Transformer):
        raise MissingPlace("attention")
    return backbone


def _block(block: nn.Module, names: BlockNames) -> Block:
    get = block.get_submodule
    return Block(
        AttentionSublayer(get(names.roles["norm1"]), get(names.attention)),
        FeedForwardSublayer(get(names.roles["norm2"]), get(names.ffn)),
    )


def _projections(key: str, block: nn.Module, names: BlockNames, roles: Sequence[Role]) -> Iterator[Place]:
    for role in roles:
        path, _, attribute = names.roles[role].rpartition(".")
        owner = block.get_submodule(path)
        yield Place(role, f"{key}.{role}", owner, attribute, getattr(owner, attribute))
