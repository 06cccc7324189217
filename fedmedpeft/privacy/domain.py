"""Whether a site's images lie out of the domain of a backbone, judged at the site by the frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fedmedpeft.backbones import EMBEDDED, Backbone, Inserted
from fedmedpeft.backbones.checkpoint_files import embedded_directory
from fedmedpeft.components import ConfigError
from fedmedpeft.data.split import Split
from fedmedpeft.privacy.domain_distance import FEWEST, distance
from fedmedpeft.privacy.domain_reference import REFERENCE_FILE, FeatureReference

__all__ = ["FeatureReference", "Verdict", "distance", "frozen_features", "image_groups", "judge", "shipped_reference"]

_BATCH = 64


@dataclass(frozen=True)
class Verdict:
    """What :func:`judge` found.

    Args:
        foreign: out of the domain, or nobody can tell.
        distance: from the reference; None where there was none to take.
        why: in words, without paths; it says something about the site's images and stays there.
    """

    foreign: bool
    distance: float | None
    why: str


def judge(
    features: torch.Tensor, reference: FeatureReference | None, threshold: float = 0.0, fingerprint: str = ""
) -> Verdict:
    """Whether ``features`` [N, d] lie out of the reference's domain. Where nobody can tell, they do.

    Args:
        reference: None where the backbone has none.
        threshold: largest distance within the domain; 0: the reference's own.
        fingerprint: of the backbone that made the features; empty: whoever asks has compared it.

    Raises:
        ConfigError: the reference is of another backbone.
    """
    if reference is None:
        return Verdict(True, None, "no reference of the backbone's domain at hand")
    check_fingerprint(reference, fingerprint)
    if len(features) < FEWEST:
        return Verdict(True, None, f"{len(features)} images; below {FEWEST} chance is too large to tell")
    if not torch.isfinite(features).all():
        return Verdict(True, None, "features that are not finite")
    limit, found = threshold or reference.threshold, distance(features, reference)
    foreign = not found <= limit
    where = "out of" if foreign else "within"
    return Verdict(
        foreign, found, f"distance {found:.3f}, {where} the domain (up to {limit:.3f}) of {reference.source}"
    )


def check_fingerprint(reference: FeatureReference, fingerprint: str) -> None:
    """Raises ConfigError where the reference is of another backbone than that with ``fingerprint``, if any is given."""
    if fingerprint and reference.fingerprint != fingerprint:
        raise ConfigError(
            f"The reference of {reference.source} is of a backbone with fingerprint {reference.fingerprint[:12]}; this "
            f"one has {fingerprint[:12]}. Make one with this backbone, at this image size: `fedmedpeft privacy "
            "reference --backbone ...`."
        )


def shipped_reference(backbone: Backbone) -> FeatureReference | None:
    """The reference that lies beside the weights; None where there is none, or it is of other weights or image size.

    Raises:
        ConfigError: the file is damaged.
    """
    name = backbone.record.name
    path = (embedded_directory() if name == EMBEDDED else Path(name)) / REFERENCE_FILE
    if not path.is_file():
        return None
    reference = FeatureReference.load(path)
    return reference if reference.fingerprint == backbone.fingerprint else None


@torch.no_grad()
def frozen_features(backbone: Backbone, split: Split, limit: int = 512) -> torch.Tensor:
    """Features of a split's images, float32 [N, d] on the CPU, as the untouched backbone sees them.

    Texts are not read: of a backbone that reads image and text it is the class token of the tower for images.

    Args:
        limit: N at most; which images that are is the same every time.

    Raises:
        ValueError: something is inserted in the backbone.
    """
    if any(isinstance(place.current, Inserted) for place in backbone.every_place()):
        raise ValueError("the backbone has something inserted: its features are not those of the frozen network")
    preprocessing, device = backbone.record.preprocessing, next(backbone.parameters()).device
    mean, std = (
        torch.tensor(values, device=device).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    network = backbone.image_transformer if backbone.text_length else backbone
    assert network is not None
    computed = []
    for rows in _drawn(len(split.images), limit).split(_BATCH):
        feature = network((split.images[rows].to(device).float() / 255 - mean) / std)
        computed.append((feature[:, 0] if feature.ndim == 3 else feature).float().cpu())
    return torch.cat(computed) if computed else torch.zeros(0, 0)


def image_groups(split: Split, limit: int = 512) -> torch.Tensor:
    """Whose images :func:`frozen_features` reads, int64 [N]: the patient where the data says, else each its own."""
    rows = _drawn(len(split.images), limit)
    if split.patient_of is None:
        return rows
    owner = torch.zeros(len(split.images), dtype=torch.int64)
    owner[split.image_of] = split.patient_of
    return owner[rows]


def _drawn(count: int, limit: int) -> torch.Tensor:
    return torch.from_numpy(np.sort(np.random.default_rng(0).permutation(count)[:limit]))
