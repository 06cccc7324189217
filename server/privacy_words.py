"""What a run's privacy was, in sentences: for the final table and the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.records import SiteRecord

_NAMED = 5


def site_privacy(spent: Mapping[str, SiteRecord]) -> dict[str, dict[str, Any]]:
    """By site that trained with privacy: what epsilon is per, and epsilon and delta where it told."""
    return {
        site: {"unit": record.private, "epsilon": record.epsilon, "delta": record.delta}
        for site, record in sorted(spent.items())
    }


def privacy_sentences(privacy: Mapping[str, Mapping[str, Any]], units: Mapping[str, str]) -> list[str]:
    """One sentence per site with privacy, whether or not it was heard after joining; one about the others.

    Args:
        privacy: of :func:`site_privacy`.
        units: by site, what its updates are private per, as it joined; empty: they are not.

    >>> privacy_sentences({"a": {"unit": "patient", "epsilon": 2.0, "delta": 1e-4}}, {"a": "patient"})
    ['Differential privacy at a: epsilon 2 per patient at delta 0.0001, over all that its data was trained on so far.']
    """
    lines = [f"Differential privacy at {site}: {_amount(said)}." for site, said in privacy.items()]
    silent = [site for site, unit in units.items() if unit and site not in privacy]
    lines += [f"Differential privacy at {site}: it gave no answer that counts, and no epsilon." for site in silent]
    public = [site for site, unit in units.items() if not unit]
    if lines and public:
        lines.append(f"Without differential privacy, so that their updates are not private: {some_names(public)}.")
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


def some_names(sites: Sequence[str]) -> str:
    """Their names, of many the first few."""
    more = f" and {len(sites) - _NAMED} more" if len(sites) > _NAMED else ""
    return ", ".join(sites[:_NAMED]) + more


def _amount(said: Mapping[str, Any]) -> str:
    if said["epsilon"] is None:
        return f"per {said['unit']}, with an epsilon that the site keeps to itself"
    return (
        f"epsilon {said['epsilon']:.3g} per {said['unit']} at delta {said['delta']:.2g}, over all that its data was "
        "trained on so far"
    )
