"""Texts that are wrong for an image: which may be, which are hard to tell from the right one, and a draw of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedmedpeft.text import Text

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_POOL = 4
"""Hard negatives are drawn from this many times as many of the most similar texts."""
_CHUNK = 256


@dataclass(frozen=True)
class Candidates:
    """N texts as one another's negatives.

    A text is no negative of another of its image, nor of one that says the same word for word: as many hospitals write
    "no finding" under many images, that would teach that a right text is wrong.

    Attributes:
        image_of: int64 [N].
        wording: int64 [N], equal where texts have equal tokens.
        nearest: int64 [N, P], the most similar texts among each one's negatives; itself where there are no more.
    """

    image_of: torch.Tensor
    wording: torch.Tensor
    nearest: torch.Tensor

    def excluded(self, rows: torch.Tensor) -> torch.Tensor:
        """Which texts are no negatives of ``rows`` (int64 [B]), bool [B, N]."""
        same_image = self.image_of[rows, None] == self.image_of[None, :]
        return same_image | (self.wording[rows, None] == self.wording[None, :])


def find_candidates(image_of: torch.Tensor, text: Text, hard: int) -> Candidates:
    """Candidates of which ``hard`` at a time are to be hard ones.

    Similar texts share rare tokens: the cosine of their TF-IDF vectors. Those that share none are not hard.
    """
    _, wording = text.ids.masked_fill(~text.mask, -1).unique(dim=0, return_inverse=True)
    candidates = Candidates(image_of, wording, torch.zeros(len(image_of), 0, dtype=torch.int64))
    pool = min(_POOL * hard, len(image_of))
    if not pool:
        return candidates
    vectors = _tf_idf(text)
    chunks = torch.arange(len(image_of)).split(_CHUNK)
    nearest = [_nearest(vectors, candidates, rows, pool) for rows in chunks]
    return Candidates(image_of, wording, torch.cat(nearest))


def draw_negatives(
    candidates: Candidates, rows: torch.Tensor, count: int, hard: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """``count`` different negatives for each of ``rows``, or all where there are fewer.

    Args:
        candidates: of all texts, N.
        rows: int64 [B].
        count: of a row.
        hard: how many of them are drawn from the nearest; with fewer of these, others take their place.
        generator: on the CPU.

    Returns:
        int64 [B, K] with K at most ``count``, and bool [B, K], which is False where a row has no more negatives; the
        text that stands there means nothing.
    """
    excluded = candidates.excluded(rows)
    keys = torch.rand(excluded.shape, generator=generator)
    near = candidates.nearest[rows]
    near_keys = torch.rand(near.shape, generator=generator).masked_fill(near == rows[:, None], 2)
    chosen = near_keys.topk(min(hard, near.shape[1]), dim=1, largest=False).indices
    # Below every other key, so that they come first; a row's own number, which fills up, is excluded below.
    keys.scatter_(1, near.gather(1, chosen), -1)
    keys = keys.masked_fill(excluded, 2)
    first = keys.topk(min(count, keys.shape[1] - 1), dim=1, largest=False)
    return first.indices, first.values < 2


def _nearest(vectors: csr_matrix, candidates: Candidates, rows: torch.Tensor, pool: int) -> torch.Tensor:
    """For ``rows`` the ``pool`` most similar negatives, int64 [B, P]."""
    similar = torch.from_numpy((vectors[rows.numpy()] @ vectors.T).toarray())
    best = similar.masked_fill(candidates.excluded(rows), 0).topk(pool, dim=1)
    return torch.where(best.values > 0, best.indices, rows[:, None])


def _tf_idf(text: Text) -> csr_matrix:
    """One vector of length 1 per text; a token that every text has weighs nothing."""
    from scipy.sparse import csr_matrix, diags  # A third of a second that a server need not pay.

    mask = text.mask.numpy()
    texts, tokens = np.nonzero(mask)[0], text.ids.numpy()[mask]
    counts = csr_matrix((np.ones(len(tokens)), (texts, tokens)), shape=(len(mask), int(tokens.max()) + 1))
    counts.sum_duplicates()
    found = np.bincount(counts.indices, minlength=counts.shape[1])
    weighted = counts @ diags(np.log(len(mask) / np.maximum(found, 1)))
    norms = np.sqrt(weighted.multiply(weighted).sum(axis=1)).A1
    return csr_matrix(diags(1 / np.where(norms > 0, norms, 1)) @ weighted)
