"""The data sources, one file each; importing this package registers them."""

from __future__ import annotations

from fedmedpeft.data.sources import folder, manifest, medmnist, phantoms, slake, vqa, vqa_rad

__all__ = ["folder", "manifest", "medmnist", "phantoms", "slake", "vqa", "vqa_rad"]
