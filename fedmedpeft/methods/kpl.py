"""KPL-METER: adapters in both encoders, SAdapters in the co-attention."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.kpl_adapter import KplAdapter, KplAdapterOptions
from fedmedpeft.methods.method import Method, register_method
from fedmedpeft.methods.sadapter import KPL, SAdapter, SAdapterOptions, SharingOptions


class KplOptions(SharingOptions):
    """Options of ``kpl``, with the published defaults."""

    init: Literal["kpl", "zero"] = Field(
        "kpl", description="kpl: N(0, 0.02^2), as published; zero: training starts at the frozen model"
    )
    factor: int = Field(3, ge=1, description="the encoders' bottleneck is their width divided by this, rounded down")
    dropout: float = Field(0.1, ge=0, lt=1, description="in text encoder and SAdapters, while training")
    image_dropout: float = Field(0.0, ge=0, lt=1, description="in the image encoder, while training")


@register_method("kpl", KplOptions)
class Kpl(Method):
    """``kpl-adapter`` in the image and the text encoder, and ``sadapter`` in the co-attention, as published together.

    Knowledge, the third part of KPL-METER, has no parameters: it is a matter of the data (``knowledge``).
    """

    summary = "KPL-METER: adapters in both encoders (a third of the width) and SAdapters (middle 128)"
    source = KPL
    learning_rate = 5e-4
    averaging = "factors"
    options: KplOptions

    def __init__(self, options: KplOptions) -> None:
        super().__init__(options)
        self.starts_frozen = options.init == "zero"

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        options = self.options
        start: Literal["zero", "normal"] = "zero" if options.init == "zero" else "normal"
        encoders = KplAdapter(KplAdapterOptions(factor=options.factor, dropout=options.dropout, init=start))
        sharing = options.model_dump(include=set(SharingOptions.model_fields))
        fusion = SAdapter(SAdapterOptions(**sharing, init=start))
        return encoders.in_encoders(backbone, init, name="kpl", image_dropout=options.image_dropout) | fusion.in_fusion(
            backbone, init, name="kpl"
        )
