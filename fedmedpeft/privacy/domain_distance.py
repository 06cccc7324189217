"""How far a set of features is from a reference, and how far chance alone takes a set of the same source."""

from __future__ import annotations

import numpy as np
import torch

from fedmedpeft.components import ConfigError
from fedmedpeft.privacy.domain_reference import FeatureReference

FEWEST = 50
"""Images below which chance is too large to tell: the threshold is made for so many."""
_FEWEST_GROUPS = 10
"""Fewer have too few different halves."""
_DRAWS, _QUANTILE = 200, 0.99
_FLOOR = 0.01
"""Of the root mean square over all dimensions: no standard deviation counts for less, so that a dimension that happened
to be constant in the reference cannot decide alone, and nothing is divided by zero."""
_SMALLEST = 1e-6


def distance(features: torch.Tensor, reference: FeatureReference) -> float:
    """How far ``features`` [N, d] are from the reference, in its standard deviations.

    The diagonal Frechet (2-Wasserstein) distance of two Gaussians per dimension, over its scale, as a root mean square:
    sqrt(mean over dimensions of ((m - mu)^2 + (s - sigma)^2) / sigma^2). What N and n images of one and the same source
    would give on average is subtracted first (the variances of m, s and of the reference's own mu, sigma), so that the
    expected square is that of infinitely many images; below 0 it is 0. Images that come in groups (several of one
    patient) vary less than so many apart would: then too little is subtracted, and the distance is too large.

    Raises:
        ValueError: fewer than two features, of another width, or not finite.
    """
    if features.ndim != 2 or len(features) < 2 or features.shape[1] != len(reference.mean):
        expected = f"[N, {len(reference.mean)}] with N of 2 or more"
        raise ValueError(f"features have shape {list(features.shape)}, expected {expected}")
    if not torch.isfinite(features).all():
        raise ValueError("a feature is not finite")
    x, mu, sigma = features.double().cpu(), reference.mean.double(), reference.std.double()
    count, scale = len(x), sigma.clamp_min(max(_FLOOR * sigma.square().mean().sqrt().item(), _SMALLEST))
    centred = x - x.mean(0)
    variance = centred.square().sum(0) / (count - 1)
    # Of a standard deviation by the delta method; of the reference's as if its features were normal.
    of_std = (centred.pow(4).mean(0) - variance.square()).clamp_min(0) / (4 * variance).clamp_min(_SMALLEST**2)
    shift = (x.mean(0) - mu).square() - variance / count - sigma.square() / reference.samples
    spread = (variance.sqrt() - sigma).square() - of_std / count - sigma.square() / (2 * reference.samples)
    return float(((shift + spread) / scale.square()).mean().clamp_min(0).sqrt())


def make_reference(
    features: torch.Tensor, groups: torch.Tensor, *, fingerprint: str, source: str, threshold: float = 0.0
) -> FeatureReference:
    """The reference of ``features`` [N, d].

    Args:
        features: of a domain's images.
        groups: int64 [N], whose images they are: a patient's vary together.
        fingerprint, source: see :class:`FeatureReference`.
        threshold: largest distance within the domain; 0: :func:`chance_distance`.

    Raises:
        ConfigError: too few images for a threshold.
    """
    if not threshold and len(features) < 2 * FEWEST:
        raise ConfigError(
            f"A reference of {len(features)} images: a threshold needs {2 * FEWEST} or more. Give more images, or the "
            "threshold."
        )
    return _reference(features, fingerprint, source, threshold or chance_distance(features, groups, fingerprint))


def chance_distance(features: torch.Tensor, groups: torch.Tensor, fingerprint: str, seed: int = 0) -> float:
    """The distance that a set of :data:`FEWEST` images of the same source exceeds once in a hundred draws.

    In each draw one random half of the groups makes a reference, and whole groups of the other half, until there are
    enough images, are compared with it.

    Raises:
        ConfigError: too few groups, or all features are alike.
    """
    generator, (names, of_row) = np.random.default_rng(seed), torch.unique(groups, return_inverse=True)
    if len(names) < _FEWEST_GROUPS:
        raise ConfigError(
            f"A reference of {len(names)} patients: a threshold needs {_FEWEST_GROUPS} or more. Give the threshold."
        )
    distances = []
    for _ in range(_DRAWS):
        rank = torch.from_numpy(generator.permutation(len(names)))[of_row]
        half = rank < len(names) // 2
        others = torch.nonzero(~half).flatten()
        others = others[torch.argsort(rank[others], stable=True)]
        last = rank[others[min(FEWEST, len(others)) - 1]]
        drawn = others[rank[others] <= last]
        if min(int(half.sum()), len(drawn)) >= 2:
            distances.append(distance(features[drawn], _reference(features[half], fingerprint, "", 1.0)))
    found = float(np.quantile(distances, _QUANTILE)) if distances else 0.0
    if not found:
        raise ConfigError(
            "No draw of the reference's images differs from the rest: all are alike, or nearly all of one patient. "
            "Give the threshold."
        )
    return found


def _reference(features: torch.Tensor, fingerprint: str, source: str, threshold: float) -> FeatureReference:
    x = features.double().cpu()
    return FeatureReference(x.mean(0).float(), x.std(0).float(), len(x), fingerprint, source, threshold)
