"""Prefix tuning and P-Tuning v2: learned keys and values in front of what every attention reads."""

from __future__ import annotations

import re
from functools import partial
from typing import cast

import torch
from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone, Inserted, Place
from fedmedpeft.backbones.text_encoder import WordEmbedding
from fedmedpeft.components import ConfigError
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method
from fedmedpeft.methods.prompts import PromptTokens
from fedmedpeft.methods.shared_module import Lent


class PrefixOptions(MethodOptions):
    """Options of ``prefix`` and ``p-tuning-v2``."""

    tokens: int = Field(10, ge=1, description="learned keys and values in each attention")
    cross: bool = Field(False, description="in cross-attention too, not in self-attention alone")
    offset: bool = Field(
        False, description="positions of a text's words begin behind the prefix, as in Hugging Face peft and MILE"
    )


class PrefixSource(Inserted):
    """What the prefixes of a network's attentions share: tokens [B, ...] -> tanh(hidden(embedding)), [B, P, d]."""

    def __init__(self, embedding: PromptTokens, hidden: nn.Linear) -> None:
        super().__init__()
        self.embedding, self.hidden = embedding, hidden

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.hidden(self.embedding(tokens))
        return states.tanh()


class Prefixed(Inserted):
    """``base(x)`` behind a prefix: [B, T, d_in] -> [B, P + T, d].

    Args:
        base: keys or values of an attention.
        source: tokens [B, ...] -> [B, P, k], this module's own, or lent to it.
        projection: [B, P, k] -> [B, P, d].
    """

    def __init__(self, base: nn.Module, source: nn.Module | Lent, projection: nn.Module) -> None:
        super().__init__()
        self.base, self.source, self.projection = base, source, projection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Detached as in InsertPrompts.
        prefix: torch.Tensor = self.projection(self.source(x.detach()))
        return torch.cat([prefix, self.base(x)], dim=1)


class PositionsBehindPrefix(Inserted):
    """Token ids [B, T] -> embeddings at positions that count ``tokens`` more in front."""

    def __init__(self, base: nn.Module, tokens: int) -> None:
        super().__init__()
        self.base, self.tokens = base, tokens

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        # The first token is no padding: repeated, it counts as a prefix does.
        embedded: torch.Tensor = self.base(torch.cat([ids[:, :1].expand(-1, self.tokens), ids], dim=1))
        return embedded[:, self.tokens :]


class _PrefixMethod(Method):
    """Base of both: attention(q, [P_k; k], [P_v; v]) with P_k, P_v [P, d] of its own in every attention."""

    starts_frozen = False
    options: PrefixOptions

    def _places(self, backbone: Backbone) -> list[Place]:
        places = backbone.places("k", "v")
        crossed = tuple(f"{place.key}." for place in backbone.places(optional=("cross",)))
        return [place for place in places if self.options.cross or not place.key.startswith(crossed)]

    def _shift(self, backbone: Backbone) -> None:
        """Move the positions of every text network, where that is wanted. Raises ConfigError past the last of them."""
        tokens = self.options.tokens
        for place in backbone.places("word_embed") if self.options.offset else ():
            longest = _positions(cast(WordEmbedding, place.original))
            # A decoder's texts may be as long as there is room for.
            if (backbone.text_length if place.part == "text" else 1) + tokens > longest:
                raise ConfigError(
                    f"method: a prefix of tokens={tokens} with offset=true and the text behind it go beyond the "
                    f"{longest} positions of '{place.key}'. Take fewer tokens, or none of the positions: offset=false."
                )
            place.wrap(partial(PositionsBehindPrefix, tokens=tokens))


@register_method("prefix", PrefixOptions)
class Prefix(_PrefixMethod):
    """P = W tanh(H e + h) + b with an embedding e [P, d] and H [d, d] for each network, and W [d, d] for each P.

    The parametrisation is that of Hugging Face peft with ``prefix_projection``, whose one projection to all layers is
    cut here into its rows: those of layer l's keys are the 2l-th block of d rows, those of its values the next. Text
    and image layers of a co-attention are two networks. As nothing but keys and values is added, a backbone with a
    prefix has as many tokens as before.
    """

    summary = "learned keys and values in every self-attention, from an MLP that a network shares (10 tokens)"
    source = "Li and Liang, Prefix-Tuning, ACL 2021 (arXiv 2101.00190); Chen et al., MILE, MICCAI 2024"
    learning_rate = 2e-3
    averaging = "factors"

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        made: dict[str, PrefixSource] = {}
        exchanged: dict[str, nn.Parameter] = {}
        for place in self._places(backbone):
            shared, width = f"{_network(place)}.prefix", place.width
            source: PrefixSource | Lent
            if shared in made:
                source = Lent(made[shared])
            else:
                made[shared] = source = self._source(init, shared, width)
                exchanged[f"{shared}.embedding"] = source.embedding.prompts
                exchanged |= {f"{shared}.hidden.{name}": p for name, p in source.hidden.named_parameters()}
            key = f"{place.key}.prefix"
            projection = init.linear(key, width, width, std=(3 * width) ** -0.5)
            place.wrap(partial(Prefixed, source=source, projection=projection))
            exchanged |= {f"{key}.{name}": parameter for name, parameter in projection.named_parameters()}
        self._shift(backbone)
        return exchanged

    def _source(self, init: Initialiser, key: str, width: int) -> PrefixSource:
        """Spread as torch spreads an embedding and a linear layer."""
        embedding = PromptTokens(init.normal(f"{key}.embedding", self.options.tokens, width, std=1.0))
        return PrefixSource(embedding, init.linear(f"{key}.hidden", width, width, std=(3 * width) ** -0.5))


@register_method("p-tuning-v2", PrefixOptions)
class PTuningV2(_PrefixMethod):
    """P [P, d] itself is learned, for the keys and for the values of each attention."""

    summary = "learned keys and values in every self-attention, each its own parameter (10 tokens)"
    source = "Liu et al., P-Tuning v2, ACL 2022 (arXiv 2110.07602); Chen et al., MILE, MICCAI 2024"
    learning_rate = 1e-2

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        exchanged: dict[str, nn.Parameter] = {}
        for place in self._places(backbone):
            key = f"{place.key}.prefix"
            source = PromptTokens(init.normal(key, self.options.tokens, place.width, std=1.0))
            place.wrap(partial(Prefixed, source=source, projection=nn.Identity()))
            exchanged[key] = source.prompts
        self._shift(backbone)
        return exchanged


def _network(place: Place) -> str:
    """Name of the stack of layers that it is in: ``vision.blocks.3.k`` -> ``vision.blocks``."""
    return re.sub(r"\.\d+|(\.cross)?\.[kv]$", "", place.key)


def _positions(embedding: WordEmbedding) -> int:
    """How many tokens a text may have."""
    taken = embedding.padding + 1 if embedding.counts_from_padding else 0
    return embedding.position.num_embeddings - taken
