"""Rounds that move only a part: which groups of tensors each round trains and exchanges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fedmedpeft.exchange import ContractError, Manifest

Order = Literal["uniform", "cyclic"]


@dataclass(frozen=True)
class Rotation:
    """Groups of exchanged tensors that take turns. Falsy where nothing does: then every tensor is in every round.

    Args:
        groups: tensor names by group (``blocks.3``), in the network's order.
        count: groups in one round.
        order: ``uniform``: drawn anew for every round, all groups alike; ``cyclic``: one after the other.
        per_site: each site has a draw of its own.
        persist: what a group learned stays in the global state. Otherwise a group that is not drawn for a round goes
            back to its initial values before it.
    """

    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    count: int = 0
    order: Order = "uniform"
    per_site: bool = False
    persist: bool = True

    def __bool__(self) -> bool:
        return bool(self.groups)

    def draw(self, seed: int, round_: int, site: str = "") -> tuple[str, ...]:
        """The groups of one round, in the network's order; the same on every machine.

        Args:
            seed: of the run.
            round_: counted from 1.
            site: whose draw it is, where each site has its own.
        """
        names, whose = list(self.groups), site if self.per_site else ""
        if self.order == "cyclic":
            first = (round_ - 1) * self.count + (_number(seed, whose) if whose else 0)
            drawn = {(first + turn) % len(names) for turn in range(self.count)}
        else:
            generator = np.random.default_rng(_number(seed, round_, whose))
            drawn = set(generator.choice(len(names), size=self.count, replace=False).tolist())
        return tuple(names[index] for index in sorted(drawn))

    def resting(self, groups: Iterable[str]) -> frozenset[str]:
        """Names of the tensors whose turn it is not while ``groups`` take theirs."""
        turning = set(groups)
        return frozenset().union(*(names for group, names in self.groups.items() if group not in turning))

    def part(self, manifest: Manifest, groups: Iterable[str]) -> Manifest:
        """What a message with ``groups`` holds of ``manifest``: these, and all that takes no turns."""
        resting = self.resting(groups)
        return manifest.only({spec.name for spec in manifest.tensors} - resting)

    def largest_part(self, manifest: Manifest) -> Manifest:
        """The most that a site gives back in one round."""
        sizes = {group: manifest.only(names).numel() for group, names in self.groups.items()}
        return self.part(manifest, sorted(sizes, key=lambda group: -sizes[group])[: self.count])

    def without(self, names: Iterable[str]) -> Rotation:
        """A rotation in which the tensors ``names`` take no turns."""
        fixed = frozenset(names)
        return replace(self, groups={group: keys - fixed for group, keys in self.groups.items()})

    def read(self, text: str) -> tuple[str, ...]:
        """Groups as :meth:`write` put them into a message. Raises ContractError for one unknown or named twice."""
        groups = tuple(text.split(",")) if text else ()
        if not set(groups) <= set(self.groups) or len(set(groups)) < len(groups):
            raise ContractError("names groups of tensors that do not take turns in this run, or one of them twice")
        return groups

    @staticmethod
    def write(groups: Iterable[str]) -> str:
        """For a message: names, comma-separated."""
        return ",".join(groups)


def _number(*parts: int | str) -> int:
    """64 bits that depend on every part."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, ("rotation", *parts))).encode()).digest()[:8], "big")
