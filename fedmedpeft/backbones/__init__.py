"""Frozen backbones: loading, fingerprint, preprocessing, and places for insertion by role."""

from fedmedpeft.backbones.backbone import Backbone, Inserted, Place, Role
from fedmedpeft.backbones.checkpoint_files import EMBEDDED
from fedmedpeft.backbones.loading import load_backbone, load_record
from fedmedpeft.backbones.record import Architecture, BackboneRecord, Preprocessing, standard_record
from fedmedpeft.backbones.vit import skeleton

__all__ = [
    "EMBEDDED",
    "Architecture",
    "Backbone",
    "BackboneRecord",
    "Inserted",
    "Place",
    "Preprocessing",
    "Role",
    "load_backbone",
    "load_record",
    "skeleton",
    "standard_record",
]
