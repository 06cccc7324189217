"""What a run's privacy was, in sentences: for the final table and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.records import SiteRecord


def site_privacy(spent: Mapping[str, SiteRecord]) -> dict[str, dict[str, Any]]:
    """By site that trained with privacy: what epsilon is per, and epsilon and delta where it told."""
    return {
        site: {"unit": record.private, "epsilon": record.epsilon, "delta": record.delta}
        for site, record in sorted(spent.items())
    }


def privacy_sentences(privacy: Mapping[str, Mapping[str, Any]], sites: int) -> list[str]:
    """One sentence per site with privacy; one about the others.

    >>> privacy_sentences({"a": {"unit": "patient", "epsilon": 2.0, "delta": 1e-4}}, 1)
    ["Differential privacy at a: epsilon 2 per patient at delta 0.0001, over all that its data was trained on so far."]
    """
    lines = [f"Differential privacy at {site}: {_amount(said)}." for site, said in privacy.items()]
    if lines and len(privacy) < sites:
        lines.append(f"The other {sites - len(privacy)} trained without: their updates are not private.")
    return lines


def of_sites_sentences(of_sites: Mapping[str, Any]) -> list[str]:
    """What privacy of whole sites came to, of ``ClientPrivacy.summary()``; nothing where the run has none."""
    if not of_sites:
        return []
    whom = "whoever sees the global states" if of_sites["noise_at"] == "server" else "everyone, the server too"
    return [
        f"Differential privacy of whole sites: epsilon {of_sites['epsilon']:.3g} at delta {of_sites['delta']:.2g} "
        f"against {whom}, for the site that was in most rounds."
    ]


def _amount(said: Mapping[str, Any]) -> str:
    if said["epsilon"] is None:
        return f"per {said['unit']}, with an epsilon that the site keeps to itself"
    return (
        f"epsilon {said['epsilon']:.3g} per {said['unit']} at delta {said['delta']:.2g}, over all that its data was "
        "trained on so far"
    )
