"""Federated, parameter-efficient fine-tuning of frozen vision backbones for hospitals."""

__version__ = "0.1.0"
