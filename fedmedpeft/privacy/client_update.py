"""One site's update under privacy of whole sites: clipped, and noised where the site itself adds the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedmedpeft.components import ConfigError
from fedmedpeft.privacy.client_level import ClientLevel
from fedmedpeft.privacy.randomness import Randomness

Exact = NDArray[np.float64]
Part = TypeVar("Part", bound=str)


def clip(deltas: Mapping[Part, NDArray[np.floating]], norm: float) -> tuple[dict[Part, Exact], bool]:
    """Scale an update so that its Euclidean norm over all parts together is at most ``norm``; zero stays zero.

    Returns:
        The update in float64, and whether it was within ``norm`` as it came.
    """
    exact = {part: np.asarray(vector, dtype=np.float64) for part, vector in deltas.items()}
    length = length_of(exact)
    if length <= norm:
        return exact, True
    return {part: vector * (norm / length) for part, vector in exact.items()}, False


def length_of(deltas: Mapping[Part, Exact]) -> float:
    """Euclidean norm over all parts."""
    return math.sqrt(sum(float(np.dot(vector, vector)) for vector in deltas.values()))


def protect(
    level: ClientLevel | None,
    asked: float,
    sent: Mapping[Part, NDArray[np.float32]],
    trained: Mapping[Part, NDArray[np.float32]],
    randomness: Randomness,
) -> tuple[dict[Part, NDArray[np.float32]], bool | None]:
    """What a site gives back in place of its trained values.

    Args:
        level: of the run; None: no privacy of whole sites.
        asked: the clip that the request names; 0: none.
        sent: the values that the server sent, of the same tensors as ``trained``.
        trained: what training made of them.
        randomness: of the site's noise.

    Returns:
        The values, and whether the update was within the clip: only where an adaptive clip needs that, since this bit
        is not noised.

    Raises:
        ConfigError: the server asks for another clip than the run's configuration. The message may be shown to it.
    """
    if level is None or level.clip_at == "server":
        if asked:
            raise ConfigError(f"the server asks for a clip of {asked:g}, client-privacy has no site clip")
        return dict(trained), None
    bound = level.agreed_clip(asked)
    clipped, within = clip({part: trained[part].astype(np.float64) - sent[part] for part in trained}, bound)
    if level.noise_at == "site":
        clipped = noised(clipped, level.update_noise * bound, randomness)
    values = {part: (sent[part] + vector).astype(np.float32) for part, vector in clipped.items()}
    return values, within if level.adaptation else None


def noised(vectors: Mapping[Part, Exact], std: float, randomness: Randomness) -> dict[Part, Exact]:
    """``vectors`` with Gaussian noise of this standard deviation on every number."""
    return {
        part: vector + randomness.normal(vector.shape, std=std).numpy().astype(np.float64)
        for part, vector in vectors.items()
    }
