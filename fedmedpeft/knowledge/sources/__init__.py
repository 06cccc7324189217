"""The knowledge sources, one file each; importing this package registers them."""

from __future__ import annotations

from fedmedpeft.knowledge.sources import obo, open_vocabularies, radiology, umls

__all__ = ["obo", "open_vocabularies", "radiology", "umls"]
