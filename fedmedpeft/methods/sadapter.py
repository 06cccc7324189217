"""SAdapters: bottlenecks that both modalities of a co-attention layer share (KPL-METER)."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone, MissingPlace, Place
from fedmedpeft.components import ConfigError
from fedmedpeft.methods.bottleneck import Bottleneck
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import Method, MethodOptions, register_method
from fedmedpeft.methods.shared_module import Lent
from fedmedpeft.methods.sharing_adapter import BesideSublayer, SharingAdapter, UnusedNorm

KPL = "Liang et al., KPL-METER, J Biomed Inform 2025 (166:104840)"


class SharingOptions(MethodOptions):
    """What ``sadapter`` and ``kpl`` have in common, with the published defaults."""

    middle: int = Field(128, ge=1, description="width of the three bottlenecks")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after the inner activation, while training")
    unused_norm: bool = Field(
        True,
        description="the second LayerNorm of the published module: exchanged, without influence, never trained",
    )


class SAdapterOptions(SharingOptions):
    """Options of ``sadapter``."""

    init: Literal["zero", "normal"] = Field(
        "normal", description="normal: N(0, 0.02^2), as published; zero: training starts at the frozen model"
    )


@register_method("sadapter", SAdapterOptions)
class SAdapter(Method):
    """One module for each depth of the co-attention, in both modalities, beside cross-attention and FFN.

    With h normalised by a LayerNorm of the module's own, SA_m(h) = relu([own_m(h); shared(h)]): three bottlenecks of
    half the width, own_text, own_image and shared. Around the post-norm sub-layers it is c = cross(a, y) + SA_m(a) and
    x' = FFN(k) + SA_m(k), where k is c, or what knowledge made of it. The same tensors are used four times in a forward
    pass and travel once.

    ``init=zero`` makes the last projection of each bottleneck zero. The outer activation then stands at its corner,
    where its slope is taken as one: with torch's zero no gradient would ever reach what is below.

    ``unused_norm`` keeps the published module's second LayerNorm, 2 d numbers, which nothing reads: it is there so that
    counts and published checkpoints fit. Its tensors start at zero, as differences from a plain norm, and stay there to
    the bit, unless noise for privacy moves them; without it a layer has 2 d numbers less.
    """

    summary = "one adapter per co-attention layer that text and image share (middle 128)"
    source = KPL
    learning_rate = 5e-4
    averaging = "factors"
    options: SAdapterOptions

    def __init__(self, options: SAdapterOptions) -> None:
        super().__init__(options)
        self.starts_frozen = options.init == "zero"

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return self.in_fusion(backbone, init, name="sadapter")

    def in_fusion(self, backbone: Backbone, init: Initialiser, *, name: str) -> dict[str, nn.Parameter]:
        """Put them around the co-attention, by keys ``fusion.<depth>.<name>.<parameter>``.

        Raises:
            MissingPlace: there are no co-attention layers.
            ConfigError: their width is odd.
        """
        made: dict[str, SharingAdapter] = {}
        exchanged: dict[str, nn.Parameter] = {}
        places = [place for place in backbone.places("cross", "ffn") if place.part == "fusion"]
        if not places:
            raise MissingPlace("co-attention")
        for place in places:
            depth, modality, _ = place.key.rsplit(".", 2)
            key = f"{depth}.{name}"
            if key in made:
                place.wrap(partial(BesideSublayer, adapter=Lent(made[key]), modality=modality))
                continue
            made[key] = adapter = self._adapter(init, key, place)
            place.wrap(partial(BesideSublayer, adapter=adapter, modality=modality))
            exchanged |= {f"{key}.{parameter}": value for parameter, value in adapter.named_parameters()}
        return exchanged

    def _adapter(self, init: Initialiser, key: str, place: Place) -> SharingAdapter:
        width = place.width
        if width % 2:
            raise ConfigError(f"method 'sadapter': the co-attention is {width} wide, which has no half.")
        bottlenecks = {part: self._bottleneck(init, f"{key}.{part}", width) for part in ("text", "image", "shared")}
        unused = UnusedNorm(init.zeros(width), init.zeros(width)) if self.options.unused_norm else nn.Identity()
        return SharingAdapter(init.layer_norm(width), bottlenecks, unused)

    def _bottleneck(self, init: Initialiser, key: str, width: int) -> Bottleneck:
        published, middle = self.options.init == "normal", self.options.middle
        down = init.linear(f"{key}.down", width, middle, std=0.02 if published else width**-0.5)
        up = init.linear(f"{key}.up", middle, width // 2, std=0.02 if published else 0.0)
        return Bottleneck(nn.Identity(), down, up, "relu", self.options.dropout)
