"""Recall at k of images and texts that look for each other, as counts that add up over sites."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

DEPTHS = (1, 5, 10)
"""Those k at which recall is reported."""
SIZE = 2 * (1 + len(DEPTHS)) + 2
"""How many counts there are; see :func:`recall_counts`."""
_NAMES = tuple(f"{way}_recall_{depth}" for way in ("ir", "tr") for depth in DEPTHS)
METRICS = ("mean_recall", "chance", *_NAMES)
"""``ir``: a text looks for its image. ``tr``: an image looks for one of its texts. ``mean_recall`` is the mean of these
six, and ``chance`` what a random order is expected to reach of it."""


def ranks(scores: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """How many wrong candidates come before the best right one, for each query, int64 [Q].

    A wrong one that scores the same comes before, and so does everything where a score is not a number: a model that
    answers the same to every pair finds nothing.

    Args:
        scores: [Q, G], higher is nearer.
        right: bool [Q, G], at least one in each row.
    """
    best = scores.masked_fill(~right, -math.inf).amax(dim=1, keepdim=True)
    return (~(scores < best) & ~right).sum(dim=1)


def chance(right: int, candidates: int, depth: int) -> float:
    """Probability that a random order has one of ``right`` among the first ``depth`` of ``candidates``."""
    seen = min(depth, candidates)
    return 1 - math.comb(candidates - right, seen) / math.comb(candidates, seen)


def recall_counts(scores: torch.Tensor, image_of: torch.Tensor) -> tuple[int, ...]:
    """Texts and their hits at each k, images and their hits, then what chance gives both, summed over k.

    A text hits where its own image is among the first k images, an image where any of its own texts is among the first
    k texts. Chance is in thousandths of a hit.

    Args:
        scores: of all images with all texts [I, T].
        image_of: int64 [T], the image of each text; every image has one at least.
    """
    images, texts = scores.shape
    right = image_of[None, :] == torch.arange(images)[:, None]
    of_texts, of_images = ranks(scores.T, right.T), ranks(scores, right)
    hits = [[int((found < depth).sum()) for depth in DEPTHS] for found in (of_texts, of_images)]
    own = right.sum(dim=1).tolist()
    by_chance = sum(chance(count, texts, depth) for count in own for depth in DEPTHS)
    return (texts, *hits[0], images, *hits[1], _chance_of_texts(texts, images), round(1000 * by_chance))


def recall_metrics(counts: Sequence[int]) -> dict[str, float]:
    """All of :data:`METRICS` from counts of one site, or added up; ``nan`` where nothing was looked for."""
    texts, images = counts[0], counts[1 + len(DEPTHS)]
    if not texts or not images:
        return dict.fromkeys(METRICS, math.nan)
    hits = (*counts[1 : 1 + len(DEPTHS)], *counts[2 + len(DEPTHS) : -2])
    recalls = [hit / total for hit, total in zip(hits, [texts] * 3 + [images] * 3, strict=True)]
    by_chance = (counts[-2] / texts + counts[-1] / images) / (1000 * len(recalls))
    return {
        "mean_recall": math.fsum(recalls) / len(recalls),
        "chance": by_chance,
        **dict(zip(_NAMES, recalls, strict=True)),
    }


def check_recall_counts(counts: Sequence[int], texts: int) -> None:
    """Raises ValueError where ``counts`` cannot be those of so many texts."""
    if len(counts) != SIZE or min(counts) < 0 or counts[0] != texts:
        raise ValueError(f"not counts of {texts} texts")
    if not texts:
        if any(counts):
            raise ValueError("hits without texts")
        return
    of_texts, images, of_images = counts[1:4], counts[4], counts[5:8]
    if not 1 <= images <= texts:
        raise ValueError(f"{images} images of {texts} texts")
    for hits, queries, candidates in ((of_texts, texts, images), (of_images, images, texts)):
        if list(hits) != sorted(hits) or hits[-1] > queries:
            raise ValueError("hits that do not grow with k, or more of them than queries")
        if any(hit < queries for hit, depth in zip(hits, DEPTHS, strict=True) if depth >= candidates):
            raise ValueError("a miss among fewer candidates than are looked at")
    least = math.floor(1000 * images * sum(chance(1, texts, depth) for depth in DEPTHS))
    if counts[-2] != _chance_of_texts(texts, images) or not least <= counts[-1] <= 1000 * images * len(DEPTHS):
        raise ValueError("not what chance gives")


def ideal_recall_counts(texts: int) -> list[int]:
    """Where every search hits and every text has an image of its own."""
    of_chance = _chance_of_texts(texts, texts) if texts else 0
    return [*[texts] * (SIZE - 2), of_chance, of_chance]


def show_recall_counts(counts: Sequence[int]) -> dict[str, int]:
    """The counts by name."""
    hits = [f"hits_at_{depth}" for depth in DEPTHS]
    names = ["texts", *(f"text_{name}" for name in hits), "images", *(f"image_{name}" for name in hits)]
    names += ["text_hits_by_chance_in_thousandths", "image_hits_by_chance_in_thousandths"]
    return dict(zip(names, map(int, counts), strict=True))


def _chance_of_texts(texts: int, images: int) -> int:
    """Every text has one image, so this is known to who knows how many there are."""
    return sum(1000 * texts * min(depth, images) // images for depth in DEPTHS)
