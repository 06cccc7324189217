"""Which published classification model computes what a backbone and a linear head compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, ResNetForImageClassification, ViTForImageClassification

from fedmedpeft.backbones import BackboneRecord
from fedmedpeft.backbones.families import PUBLISHED


@dataclass(frozen=True)
class HfClassifier:
    """A model of transformers.

    Args:
        type: its class.
        backbone: beginning of the names of the backbone's parameters in it.
        head: name of the linear layer in it.
    """

    type: type[PreTrainedModel]
    backbone: str
    head: str


_CLASSIFIERS = {
    "vit": HfClassifier(ViTForImageClassification, "vit.", "classifier"),
    "resnet": HfClassifier(ResNetForImageClassification, "resnet.", "classifier.1"),
}


def classifier_for(family: str) -> HfClassifier | None:
    """None where no published model computes the same: CLIPForImageClassification averages patches before its head."""
    return _CLASSIFIERS.get(family)


def new_classifier(classifier: HfClassifier, record: BackboneRecord, classes: Sequence[str]) -> PreTrainedModel:
    """The model for this backbone and these classes, without weights, on torch's meta device."""
    with torch.device("meta"):
        config = PUBLISHED[record.architecture.family].new_model(record.architecture).config
        # A ResNet's own configuration has no word for it; this project reads it there.
        config.image_size = record.architecture.image_size
        config.id2label = dict(enumerate(classes))
        config.label2id = {name: index for index, name in enumerate(classes)}
        return classifier.type(config)
