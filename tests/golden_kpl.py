"""The reference values of KPL-METER: their backbone and adapters, whose parameters have other names, as ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from fedmedpeft.backbones import BackboneRecord, Preprocessing
from fedmedpeft.backbones.architecture import ClipArchitecture, MeterArchitecture, TextArchitecture
from fedmedpeft.backbones.meter import Meter
from fedmedpeft.backbones.meter_checkpoint import as_meter, converted
from fedmedpeft.backbones.meter_family import MeterFamily
from fedmedpeft.methods import METHODS, Initialiser
from fedmedpeft.text import Text

_ARCHITECTURE = MeterArchitecture(
    vision=ClipArchitecture(
        hidden_size=36, depth=2, heads=3, ffn_size=144, patch_size=8, image_size=32, layer_norm_eps=1e-5
    ),
    text=TextArchitecture(
        model="roberta",
        hidden_size=24,
        depth=2,
        heads=4,
        ffn_size=48,
        positions=16,
        vocabulary=100,
        types=1,
        padding=1,
        layer_norm_eps=1e-5,
    ),
    hidden_size=40,
    depth=2,
    heads=4,
    ffn_size=160,
    text_length=12,
)
_SADAPTER = {
    "norm": "x_norm",
    "text.down": "text_down_proj",
    "text.up": "text_up_proj",
    "image.down": "image_down_proj",
    "image.up": "image_up_proj",
    "shared.down": "share_down_proj",
    "shared.up": "share_up_proj",
    "unused_norm": "multi_norm",
}


@dataclass(frozen=True)
class GoldenKpl:
    """The published system.

    Attributes:
        backbone: with the adapters in it.
        parameters: of the adapters, by our keys.
        published: their names there, by our keys.
        weights: of everything, by the names there.
        values: inputs, intermediates and outputs.
    """

    backbone: Meter
    parameters: dict[str, nn.Parameter]
    published: dict[str, str]
    weights: dict[str, torch.Tensor]
    values: dict[str, torch.Tensor]

    @classmethod
    def read(cls, directory: Path, method: str) -> GoldenKpl:
        """With ``method`` inserted: ``kpl``, ``kpl-adapter`` or ``sadapter`` in the sizes of the reference."""
        weights = load_file(directory / "weights.safetensors")
        model = MeterFamily().new_model(_ARCHITECTURE)
        tensors = converted(as_meter(weights, "reference values"))
        model.load_state_dict({name: tensors[name] for name in model.state_dict()})
        preprocessing = Preprocessing(image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
        record = BackboneRecord(name=directory.name, architecture=_ARCHITECTURE, preprocessing=preprocessing)
        backbone = MeterFamily().assemble(model, record, "")
        assert isinstance(backbone, Meter)
        parameters = METHODS.build(method).insert(backbone, Initialiser(0, torch.device("cpu")))
        published = {key: name for key, name in _adapters(_NAMES[method.partition("(")[0]]) if key in parameters}
        for key, name in published.items():
            parameters[key].data.copy_(weights[name])
        backbone.eval()
        return cls(backbone, parameters, published, weights, load_file(directory / "io.safetensors"))

    def text(self, name: str) -> Text:
        """``text`` or ``prompt``, which is knowledge."""
        return Text(self.values[f"in.{name}_ids"], self.values[f"in.{name}_masks"].bool())

    def classify(self, feature: torch.Tensor) -> torch.Tensor:
        """The published head."""
        weight = {name: self.weights[f"vqa_classifier.{name}"].to(feature.dtype) for name in _HEAD}
        hidden = nn.functional.linear(feature, weight["0.weight"], weight["0.bias"])
        hidden = nn.functional.layer_norm(hidden, hidden.shape[-1:], weight["1.weight"], weight["1.bias"])
        return nn.functional.linear(nn.functional.gelu(hidden), weight["3.weight"], weight["3.bias"])

    def loss(self, logits: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy over all answers, times their number."""
        targets = torch.zeros_like(logits)
        targets.scatter_(1, self.values["in.vqa_label_ids"], self.values["in.vqa_label_scores"].to(logits.dtype))
        return nn.functional.binary_cross_entropy_with_logits(logits, targets) * logits.shape[1]


_HEAD = ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias")
_NAMES = {"kpl": ("kpl", "kpl"), "kpl-adapter": ("kpl_adapter", ""), "sadapter": ("", "sadapter")}
"""What each method calls the adapters of the encoders, and those of the co-attention."""


def _adapters(names: tuple[str, str]) -> Iterator[tuple[str, str]]:
    encoders, fusion = names
    for index in range(2):
        pairs = {f"fusion.{index}.{fusion}.{ours}": f"SAdapter.{index}.{it}" for ours, it in _SADAPTER.items()}
        for direction in ("down", "up"):
            for part, block in (
                ("vision", f"vit_model.visual.transformer.resblocks.{index}"),
                ("text", f"text_transformer.encoder.layer.{index}"),
            ):
                key = f"{part}.blocks.{index}.ffn.{encoders}.{direction}"
                pairs[key] = f"{block}.adapter.{direction}_proj"
        for ours, theirs in pairs.items():
            yield from ((f"{ours}.{kind}", f"{theirs}.{kind}") for kind in ("weight", "bias"))
