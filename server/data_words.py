"""What may be said of a run's data: in a deployment each site has its own, and the server knows what they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.privacy_words import some_names

SYNTHETIC_WARNING = "SYNTHETIC DATA: figures say nothing about patients."
EACH_ITS_OWN = "each site's own"
"""In place of the keys ``data`` and ``partition``, which decide nothing where sites have data of their own."""
UNKNOWN = "-"


def configured_or_own(configured: str, partition_hash: str) -> str:
    """``configured`` where it made the partition with this hash; there is none where sites have their own data."""
    return configured if partition_hash else EACH_ITS_OWN


def data_of_run(content: Mapping[str, Any]) -> str:
    """Of what a run's ``config.toml`` holds; a dash where no site has joined, so that nobody knows whose data it is."""
    federation = content.get("federation")
    if federation is None:
        return UNKNOWN
    return configured_or_own(content["config"]["data"], federation.get("partition-hash", ""))


def synthetic_warning(sites: Sequence[str], synthetic: Sequence[str]) -> str:
    """What must stand beside every figure; empty where no site's images are generated.

    >>> synthetic_warning(["a", "b"], ["b"])
    'SYNTHETIC DATA at 1 of 2 sites (b): figures over all sites say nothing about patients.'
    """
    if not synthetic:
        return ""
    if len(synthetic) == len(sites):
        return SYNTHETIC_WARNING
    which = f"{len(synthetic)} of {len(sites)} sites ({some_names(list(synthetic))})"
    return f"SYNTHETIC DATA at {which}: figures over all sites say nothing about patients."


def synthetic_sites(summary: Mapping[str, Any]) -> list[str]:
    """Of what ``summary.json`` holds. One of an earlier version says only whether any site's images are generated."""
    return list(summary.get("synthetic_sites", summary["sites"] if summary["synthetic"] else ()))
