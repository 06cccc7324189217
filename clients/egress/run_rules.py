"""Rules against runs that are there to find out about a site's data rather than to learn from it.

Whoever writes a run's configuration chooses what its messages say. Each rule here closes a way in which runs that look
harmless one by one give away single patients, or take from another check what it rests on.
"""

from __future__ import annotations

from collections.abc import Iterable

from clients.policy_section import PolicySection
from fedmedpeft.components import parse_composition
from fedmedpeft.config import RunConfig

_FURTHEST = 1.0
"""Weight decay times step size: beyond it decay does not shrink weights, it throws them about."""


def findings(section: PolicySection, announced: RunConfig) -> Iterable[str]:
    """What of ``announced`` is against these rules; half-sentences that may be shown to the server."""
    yield from _division(section, announced)
    yield from _size_of_update(section, announced)
    yield from _step_size(section, announced)


def _division(section: PolicySection, announced: RunConfig) -> Iterable[str]:
    """Counts of two divisions that differ in one patient differ by what the model says of that patient."""
    own = {
        "partition-seed": (announced.partition_seed, section.partition_seed),
        "val-fraction": (announced.val_fraction, section.val_fraction),
        "test-fraction": (announced.test_fraction, section.test_fraction),
    }
    for key, (value, wanted) in own.items():
        if value != wanted:
            yield f"{key}={value:g} divides this site's data in another way than all its runs ({key}: {wanted:g})"


def _size_of_update(section: PolicySection, announced: RunConfig) -> Iterable[str]:
    """The update of one step on one image is that image's gradient, from which it can be drawn again."""
    images = announced.local_steps * announced.batch_size
    if images < section.smallest_count:
        yield (
            f"local-steps={announced.local_steps} of batch-size={announced.batch_size} make an update of {images} "
            f"images a round (smallest-count: {section.smallest_count})"
        )


def _step_size(section: PolicySection, announced: RunConfig) -> Iterable[str]:
    """The inbound check lets a state move as far as this site's own steps go."""
    most, own = section.most_learning_rate, 0.0 if announced.learning_rate else _recommended(announced.method)
    rates = {
        # What a method itself recommends may be taken as it is, whatever the limit.
        "learning-rate": (announced.learning_rate or own, max(own, most)),
        "head-learning-rate": (announced.head_learning_rate, most),
    }
    for key, (rate, limit) in rates.items():
        scaled = rate * announced.learning_rate_scale
        if scaled > limit:
            yield f"{key}={scaled:g}, with its scale, is above what this site takes (most-learning-rate: {most:g})"
        elif scaled * announced.weight_decay > _FURTHEST:
            yield f"weight-decay={announced.weight_decay:g} at {key}={scaled:g} throws weights about"


def _recommended(method: str) -> float:
    """The largest step size that the methods of a composition have; unknown ones are refused elsewhere."""
    # Loads torch, which `fedmedpeft site hash` alone does not need.
    from fedmedpeft.methods import METHODS

    known = set(METHODS.names())
    classes = (METHODS.factory(spec.name) for spec in parse_composition(method) if spec.name in known)
    return max((float(getattr(cls, "learning_rate", 0.0)) for cls in classes), default=0.0)
