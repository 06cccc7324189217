"""What a site says of its own size when it joins: its weight in every mean, so it is judged before the first round."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from fedmedpeft.data.decode import PUBLIC_REASONS
from fedmedpeft.exchange import ContractError, JoinReply
from server.aggregation import Weighting, weight_of

MOST_SAMPLES = 1_000_000_000
"""Of a split. No hospital has as many images."""
MOST_TIMES = 1000.0
"""The median weight of the other sites: whoever weighs more has the mean to itself, and theirs counts for nothing."""
_FEWEST = 3
"""Sites below which nobody can say whose claim is the odd one."""


def check_samples(samples: Mapping[str, int]) -> None:
    """Raises ContractError for counts that no site can have. None for validation and test: too few to be told."""
    for split in ("train", "val", "test"):
        count = samples.get(split, 0)
        if not 0 <= count <= MOST_SAMPLES:
            raise ContractError(f"says that it has {count} {split} samples, expected 0 to {MOST_SAMPLES:,}")
    if not samples.get("train"):
        raise ContractError("it has no training data")


def check_skipped(skipped: Mapping[str, int]) -> None:
    """Raises ContractError for a reason that no site gives: reasons are shown, and could be any text."""
    if not set(skipped) <= PUBLIC_REASONS:
        raise ContractError("leaves images out for a reason that is none of the known ones")


def out_of_proportion(replies: Mapping[int, JoinReply], weighting: Weighting) -> dict[int, str]:
    """Nodes that would weigh more than :data:`MOST_TIMES` the median of the others, and why that is too much.

    Nothing is said of two sites, nor where ``weighting`` makes all equal. Below this limit a site's claim is believed:
    nobody but the site can count its images.
    """
    if len(replies) < _FEWEST:
        return {}
    weights = {node: weight_of(reply.samples["train"], weighting) for node, reply in replies.items()}
    found = {}
    for node, weight in weights.items():
        middle = median(other for key, other in weights.items() if key != node)
        if weight > MOST_TIMES * middle:
            found[node] = (
                f"says that it has {replies[node].samples['train']} training samples, and would weigh "
                f"{weight / middle:.3g} times the median of the other sites, at most {MOST_TIMES:g} is accepted. "
                "Correct it, or set weighting='uniform'"
            )
    return found
