"""The adapter of KPL-METER's single-modality encoders."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone, MissingPlace, Place
from fedmedpeft.components import ConfigError
from fedmedpeft.methods.bottleneck import AdapterMethod, AdapterOptions, ParallelAdapter, SequentialAdapter
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import register_method

ENCODERS = ("vision", "text")
"""The networks that KPL-METER calls single-modality encoders."""


class KplAdapterOptions(AdapterOptions):
    """Options of ``kpl-adapter``, with the published defaults."""

    factor: int = Field(3, ge=1, description="the bottleneck is the network's width divided by this, rounded down")
    placement: Literal["auto", "end", "parallel"] = Field(
        "auto",
        description="end: x + A(x) after the FFN's residual; parallel: beside the whole FFN sub-layer; auto: end in an "
        "image encoder, parallel in a text encoder",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after the activation, while training")
    init: Literal["zero", "normal"] = Field(
        "normal", description="normal: N(0, 0.02^2), as published; zero: training starts at the frozen model"
    )


@register_method("kpl-adapter", KplAdapterOptions)
class KplAdapter(AdapterMethod):
    """A(x) = up(dropout(relu(down(x)))), one per block: at its end in the image encoder, beside its FFN in the text's.

    A text encoder's blocks are post-norm, so there the sum of FFN sub-layer and adapter is not normalised. The
    published equation has the dropout; the released image encoder leaves it out (as ``kpl`` does).
    """

    summary = "one wide bottleneck adapter in each block of an encoder (a third of the width)"
    source = "Liang et al., KPL-METER, J Biomed Inform 2025 (166:104840)"
    options: KplAdapterOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        return self.in_encoders(backbone, init, name="kpl_adapter", image_dropout=self.options.dropout)

    def in_encoders(
        self, backbone: Backbone, init: Initialiser, *, name: str, image_dropout: float
    ) -> dict[str, nn.Parameter]:
        """Put one into every block of the encoders, by keys ``<place>.<name>.<parameter>``.

        Raises:
            MissingPlace: there is no encoder.
            ConfigError: one is so narrow that nothing is left of the bottleneck.
        """
        exchanged: dict[str, nn.Parameter] = {}
        places = [place for place in backbone.places("ffn") if place.part in ENCODERS]
        if not places:
            raise MissingPlace("an image or a text encoder")
        for place in places:
            exchanged |= self.adapt(
                [place],
                init,
                name=name,
                bottleneck=self._bottleneck(place.width),
                dropout=image_dropout if place.part == "vision" else self.options.dropout,
                around=partial(ParallelAdapter, scale=1.0) if self._parallel(place) else SequentialAdapter,
            )
        return exchanged

    def _parallel(self, place: Place) -> bool:
        placement = self.options.placement
        return placement == "parallel" or (placement == "auto" and place.part == "text")

    def _bottleneck(self, width: int) -> int:
        factor = self.options.factor
        if factor > width:
            raise ConfigError(
                f"method: with factor={factor} nothing is left of an adapter's bottleneck, for there the backbone is "
                f"{width} wide. Take at most {width}."
            )
        return width // factor
