"""Dynamic visual prompt tuning: bottlenecks beside the feed-forward networks, with prompts that read each image."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone, Transformer, as_transformer
from fedmedpeft.backbones.transformer import Readout
from fedmedpeft.components import ConfigError
from fedmedpeft.methods.dynamic_prompts import (
    AppendedPrompts,
    BesideFeedForward,
    Gate,
    GatedBottleneck,
    LatentReadout,
    MeanReadout,
)
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method
from fedmedpeft.methods.prompts import PromptTokens
from fedmedpeft.methods.shared_module import Lent


class DynamicOptions(MethodOptions):
    """Options of ``dynamic-vpt``."""

    form: Literal["abstract", "released", "readout"] = Field(
        "abstract",
        description="abstract: prompts query inside the bottleneck; released: as the public code computes; readout: "
        "the same with the prompts' read-out, which the public code drops",
    )
    tokens: int = Field(50, ge=1, description="prompts")
    bottleneck: int = Field(20, ge=1, description="width b of the bottleneck")
    share: int = Field(3, ge=1, description="consecutive blocks that share one bottleneck")


@register_method("dynamic-vpt", DynamicOptions)
class DynamicVpt(Method):
    """x + FFN(norm(x)) + gate * W_u(...W_d x...) in every block: W_d: d -> b, W_u: b -> d, both with bias.

    The paper's abstract and its public code differ, so the form has a name.

    ``abstract``: the bottleneck's latent tokens quick_gelu(W_d x) of the whole sequence (class token included) are read
    by prompts [p, b], shared as the bottleneck is, and what the prompts find goes back to the tokens that matched them
    (``LatentReadout``). The abstract leaves open how p findings are added to N tokens; this is the project's choice,
    as is that the class token is among the keys. No token is added to the sequence.

    ``released``: the code as published for ViT. Prompts with positions of their own pass through all blocks; the latent
    tokens go to W_u as they are; the feature is the mean over the normalised prompts and class token. Prompts stand
    behind the patches here: attention does not see an order, and no other method's prompts come between.

    ``readout``: ``released``, but before the feed-forward network and the bottleneck the prompts become what they read
    out of the other tokens, which the published code computes and then drops.

    The gate starts at zero, W_u does not: the first step moves only the gate (and, where they stand in the sequence,
    the prompts), every later one all of it. ``abstract`` starts at the frozen model; the other forms cannot, since the
    prompts are tokens that it never saw. The forms that the same code has for Swin and SegFormer are left out.
    """

    summary = "bottlenecks with querying prompts beside the FFNs, shared by 3 blocks (50 prompts, bottleneck 20)"
    source = "He et al., DVPT: Dynamic Visual Prompt Tuning, Neural Networks 185, 2025 (arXiv 2307.09787)"
    learning_rate = 1e-3
    averaging = "factors"
    options: DynamicOptions

    def __init__(self, options: DynamicOptions) -> None:
        super().__init__(options)
        self.starts_frozen = options.form == "abstract"

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        transformer, options = as_transformer(backbone), self.options
        exchanged = {} if options.form == "abstract" else self._append_prompts(transformer, init)
        replaced = options.tokens if options.form == "readout" else 0
        for index, place in enumerate(transformer.places("ffn")):
            first = index % options.share == 0
            if first:
                key = f"{place.key}.dynamic"
                bottleneck = self._bottleneck(init, key, transformer.hidden_size)
                exchanged |= {f"{key}.{name}": parameter for name, parameter in bottleneck.named_parameters()}
            place.wrap(
                partial(BesideFeedForward, bottleneck=bottleneck if first else Lent(bottleneck), replaced=replaced)
            )
        return exchanged

    def _bottleneck(self, init: Initialiser, key: str, width: int) -> GatedBottleneck:
        """Latent prompts start at N(0, 1), so that each reads something of its own from the first step on."""
        latent, tokens = self.options.bottleneck, self.options.tokens
        queries = self.options.form == "abstract"
        return GatedBottleneck(
            down=init.linear(f"{key}.down", width, latent, std=width**-0.5),
            readout=LatentReadout(init.normal(f"{key}.readout.prompts", tokens, latent, std=1.0)) if queries else None,
            up=init.linear(f"{key}.up", latent, width, std=latent**-0.5),
            gate=Gate(init.zeros(1)),
        )

    def _append_prompts(self, backbone: Transformer, init: Initialiser) -> dict[str, nn.Parameter]:
        embed, readout = backbone.place("embed"), backbone.place("readout")
        if not isinstance(readout.current, Readout):
            raise ConfigError("method: dynamic-vpt and another method each change how the feature is read. Keep one.")
        tokens, width = self.options.tokens, backbone.hidden_size
        keys = [f"{embed.key}.dynamic.prompts", f"{embed.key}.dynamic.positions"]
        prompts, positions = (PromptTokens(init.normal(key, tokens, width, std=0.02)) for key in keys)
        embed.wrap(partial(AppendedPrompts, prompts=prompts, positions=positions))
        readout.wrap(partial(MeanReadout, prompts=tokens))
        return dict(zip(keys, (prompts.prompts, positions.prompts), strict=True))
