"""METER as a kind of backbone: towers of other families under one roof."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from fedmedpeft.backbones.architecture import ClipArchitecture, MeterArchitecture, ViTArchitecture
from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.clip import ClipFamily
from fedmedpeft.backbones.family import Family, PublishedFamily
from fedmedpeft.backbones.meter import Fusion, Meter
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.backbones.text_encoder import TextEncoder
from fedmedpeft.backbones.transformer import Transformer
from fedmedpeft.backbones.vit import ViT

IMAGE_TOWERS: dict[str, PublishedFamily[Any]] = {"vit": ViT(), "clip": ClipFamily()}
"""Families whose transformer can be METER's image tower."""


def assembled_tower(
    model: PreTrainedModel, sizes: ViTArchitecture | ClipArchitecture, whole: BackboneRecord
) -> Transformer:
    """The image tower of a larger backbone; its places begin with ``vision.``."""
    record = BackboneRecord(name=whole.name, architecture=sizes, preprocessing=whole.preprocessing)
    return IMAGE_TOWERS[sizes.family].tower(model, record, "vision.")


class MeterModel(nn.Module):
    """The networks of a METER side by side; what its weights are loaded into.

    Attributes:
        vision: as Hugging Face has it.
        text: the text tower.
        fusion: what stands on both.
    """

    def __init__(self, vision: PreTrainedModel, text: TextEncoder, fusion: Fusion) -> None:
        super().__init__()
        self.vision, self.text, self.fusion = vision, text, fusion


class MeterFamily(Family[MeterArchitecture, MeterModel]):
    """``meter``; see :class:`fedmedpeft.backbones.meter.Meter`."""

    def new_model(self, architecture: MeterArchitecture) -> MeterModel:
        vision = IMAGE_TOWERS[architecture.vision.family].new_model(architecture.vision)
        return MeterModel(vision, TextEncoder(architecture.text), Fusion(architecture))

    def resized(self, model: MeterModel, architecture: MeterArchitecture) -> MeterModel:
        vision = IMAGE_TOWERS[architecture.vision.family].resized(model.vision, architecture.vision)
        return MeterModel(vision, model.text, model.fusion)

    def assemble(self, model: MeterModel, record: BackboneRecord, fingerprint: str) -> Backbone:
        assert isinstance(record.architecture, MeterArchitecture)
        vision = assembled_tower(model.vision, record.architecture.vision, record)
        return Meter(record, vision=vision, text=model.text, fusion=model.fusion, fingerprint=fingerprint)
