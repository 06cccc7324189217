"""Who has which groups of the global state, where messages hold only a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedmedpeft.methods import Rotation

Draws = Mapping[str, tuple[str, ...]]
"""By site, the groups that it trains in a round."""


@dataclass
class Distribution:
    """What each site trains and is sent next.

    A group's version is the round that changed it last. 0 is the start: every site vouched for these values when it
    joined, so nobody needs to be sent them. A site is taken to have what it was sent only once it has answered well.

    Args:
        rotation: of the run's method; without one every message holds everything.
        seed: of the run.
    """

    rotation: Rotation
    seed: int
    _versions: dict[str, int] = field(default_factory=dict, init=False)
    _known: dict[str, dict[str, int]] = field(default_factory=dict, init=False)

    def draws(self, sites: Iterable[str], round_: int) -> Draws:
        """What ``sites`` train in a round."""
        if not self.rotation:
            return dict.fromkeys(sites, ())
        return {site: self.rotation.draw(self.seed, round_, site) for site in sites}

    def missing(self, site: str) -> tuple[str, ...]:
        """The groups that ``site`` is not known to have as they are now."""
        known = self._known.get(site, {})
        return tuple(group for group in self.rotation.groups if known.get(group, 0) != self._versions.get(group, 0))

    def acknowledged(self, site: str) -> None:
        """``site`` has answered well: it has the state that it was sent."""
        self._known[site] = dict(self._versions)

    def forget(self, site: str) -> None:
        """``site`` has not answered well: nobody knows what it has, save the start."""
        self._known.pop(site, None)

    def changed(self, round_: int, groups: Iterable[str]) -> None:
        """Round ``round_`` gave ``groups`` new values."""
        self._versions.update(dict.fromkeys(groups, round_))

    def state(self) -> dict[str, Any]:
        """What a run that goes on later must know, as plain values."""
        return {"versions": dict(self._versions), "known": {site: dict(known) for site, known in self._known.items()}}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self._versions = dict(state["versions"])
        self._known = {site: dict(known) for site, known in state["known"].items()}

    def going_back(self, draws: Draws) -> frozenset[str]:
        """Before a round with ``draws``: where updates do not persist, all other groups go back to the start.

        Returns:
            The names of their tensors.
        """
        if not self.rotation or self.rotation.persist:
            return frozenset()
        drawn = groups_of(self.rotation, draws)
        self._versions = {group: version for group, version in self._versions.items() if group in drawn}
        return self.rotation.resting(drawn)


def groups_of(rotation: Rotation, draws: Draws) -> tuple[str, ...]:
    """All groups that any site trains, in the network's order."""
    drawn = {group for groups in draws.values() for group in groups}
    return tuple(group for group in rotation.groups if group in drawn)
