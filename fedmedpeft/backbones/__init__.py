"""Frozen backbones: loading, fingerprint, preprocessing, and places for insertion by role."""

from fedmedpeft.backbones.architecture import Architecture, ViTArchitecture
from fedmedpeft.backbones.backbone import Backbone, Inserted, MissingPlace, NotMergeable, Part, Place, Role
from fedmedpeft.backbones.checkpoint_files import EMBEDDED
from fedmedpeft.backbones.clip import Clip
from fedmedpeft.backbones.clip_text import TextTower
from fedmedpeft.backbones.families import skeleton
from fedmedpeft.backbones.loading import load_backbone, load_record
from fedmedpeft.backbones.record import BackboneRecord, Preprocessing, standard_meter_record, standard_record
from fedmedpeft.backbones.tokenizer import Tokenizer
from fedmedpeft.backbones.transformer import Transformer, as_transformer

__all__ = [
    "EMBEDDED",
    "Architecture",
    "Backbone",
    "BackboneRecord",
    "Clip",
    "Inserted",
    "MissingPlace",
    "NotMergeable",
    "Part",
    "Place",
    "Preprocessing",
    "Role",
    "TextTower",
    "Tokenizer",
    "Transformer",
    "ViTArchitecture",
    "as_transformer",
    "load_backbone",
    "load_record",
    "skeleton",
    "standard_meter_record",
    "standard_record",
]
