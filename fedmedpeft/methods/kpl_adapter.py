"""The adapter of KPL-METER's single-modality encoders."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field
from torch import nn

from fedmedpeft.backbones import Backbone, as_transformer
from fedmedpeft.components import ConfigError
from fedmedpeft.methods.bottleneck import AdapterMethod, AdapterOptions, ParallelAdapter, SequentialAdapter
from fedmedpeft.methods.initialiser import Initialiser
from fedmedpeft.methods.method import register_method


class KplAdapterOptions(AdapterOptions):
    """Options of ``kpl-adapter``, with the published defaults."""

    factor: int = Field(3, ge=1, description="the bottleneck is the backbone's width divided by this, rounded down")
    placement: Literal["end", "parallel"] = Field(
        "end", description="end: x + A(x) after the FFN's residual; parallel: beside the whole FFN sub-layer"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after the activation, while training")
    init: Literal["zero", "normal"] = Field(
        "normal", description="normal: N(0, 0.02^2), as published; zero: training starts at the frozen model"
    )


@register_method("kpl-adapter", KplAdapterOptions)
class KplAdapter(AdapterMethod):
    """A(x) = up(dropout(relu(down(x)))), one per block: at its end in the image encoder, beside its FFN in the text's.

    The published equation has the dropout; the released image encoder leaves it out.
    """

    summary = "one wide bottleneck adapter at the end of each block (a third of the width)"
    source = "Liang et al., KPL-METER, J Biomed Inform 2025 (166:104840)"
    options: KplAdapterOptions

    def insert(self, backbone: Backbone, init: Initialiser) -> dict[str, nn.Parameter]:
        width = as_transformer(backbone).hidden_size
        if self.options.factor > width:
            raise ConfigError(
                f"method 'kpl-adapter(factor={self.options.factor})': the backbone is {width} wide, so nothing is left "
                f"of the bottleneck. Take at most {width}."
            )
        parallel = partial(ParallelAdapter, scale=1.0)
        around = parallel if self.options.placement == "parallel" else SequentialAdapter
        return self.adapt(
            backbone, init, "ffn", name="kpl_adapter", bottleneck=width // self.options.factor, around=around
        )
