"""Every kind of backbone by its name in an architecture."""

from __future__ import annotations

from typing import Any

import torch

from fedmedpeft.backbones.backbone import Backbone
from fedmedpeft.backbones.encoder_decoder_family import EncoderDecoderFamily
from fedmedpeft.backbones.family import Family, PublishedFamily
from fedmedpeft.backbones.meter_family import IMAGE_TOWERS, MeterFamily
from fedmedpeft.backbones.record import BackboneRecord
from fedmedpeft.backbones.resnet import ResNetFamily

PUBLISHED: dict[str, PublishedFamily[Any]] = {**IMAGE_TOWERS, "resnet": ResNetFamily()}
"""Those that Hugging Face's checkpoints hold."""

FAMILIES: dict[str, Family[Any, Any]] = {**PUBLISHED, "meter": MeterFamily(), "encoder-decoder": EncoderDecoderFamily()}


def family_of_model_type(model_type: str) -> PublishedFamily[Any] | None:
    """The family that reads checkpoints of this ``model_type``; None where there is none."""
    return next((family for family in PUBLISHED.values() if model_type in family.model_types), None)


def skeleton(record: BackboneRecord) -> Backbone:
    """The network without weights, on torch's meta device: enough to count and to derive a contract."""
    family = FAMILIES[record.architecture.family]
    with torch.device("meta"):
        return family.assemble(family.new_model(record.architecture), record, "")
