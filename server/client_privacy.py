"""Privacy of whole sites at the server: the one place where their updates become a mean with noise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fedmedpeft.exchange import PeftState
from fedmedpeft.privacy.client_accounting import epsilon_of
from fedmedpeft.privacy.client_level import ClientLevel
from fedmedpeft.privacy.client_update import Exact, clip, length_of, noised
from fedmedpeft.privacy.randomness import Randomness, SystemRandomness
from server.payments import Payments
from server.quarantine import Quarantined

_ROUNDING = 2.0**-24
"""Of a float32, relative: what a site that sends its values rounds them by."""
_FAR = 9.0
"""Noise is this much longer than expected, in standard deviations of one number, with a probability below 1e-17."""


@dataclass(frozen=True)
class PrivateRound:
    """What one round did; all of it may be shown.

    Attributes:
        round: counted from 1.
        sites: whose updates are in the mean.
        clip: largest norm that an update could have.
        within: noised share of the updates within it; nan where the clip is fixed.
        noise: standard deviation of each number of the mean.
    """

    round: int
    sites: tuple[str, ...]
    clip: float
    within: float
    noise: float


class ClientPrivacy:
    """Clips, averages without weights, adds noise, moves the clip, and counts who was in how many rounds.

    The strategy sees nothing but the result, so whatever it makes of it costs no more.

    Args:
        level: what was asked for.
        randomness: the operating system's, but in tests.
        payments: keeps on disk who was in how many rounds; None: it is kept in memory alone.
    """

    def __init__(
        self, level: ClientLevel, randomness: Randomness | None = None, payments: Payments | None = None
    ) -> None:
        self.level = level
        self.clip = level.clip
        """Of the next round."""
        self.rounds: list[PrivateRound] = []
        self._randomness = randomness or SystemRandomness()
        self._payments = payments
        self._paid: Counter[str] = Counter()

    @property
    def asked_clip(self) -> float:
        """What a site is asked to clip at (``VisitRequest.clip``); 0 where the server clips."""
        return self.clip if self.level.clip_at == "site" else 0.0

    def ask(self, sites: Iterable[str]) -> None:
        """Count a request to train. A site that adds noise itself has paid with its answer, which the server has seen
        whether or not it is late, refused or used; so it counts as having paid."""
        if self.level.noise_at == "site":
            self._pay(sites)

    def vet(self, sent: PeftState, answer: PeftState, within: bool | None) -> None:
        """Whether a site that clips has kept to it. Where the server clips, everything passes.

        Args:
            sent: the state that the site was sent, or more.
            answer: what it gave back.
            within: what it says: its update was within the clip as it was.

        Raises:
            Quarantined: the update is longer than clip, rounding and, where the site adds it, noise explain; or an
                adaptive clip needs ``within`` and there is none, or it contradicts the update.
        """
        if self.level.clip_at == "server":
            return
        most = self.clip
        if self.level.noise_at == "site":
            most += self.level.update_noise * self.clip * (math.sqrt(answer.manifest.numel()) + _FAR)
        slack = _ROUNDING * (answer.norm() + 2 * most)
        length = length_of(_difference(sent.only(answer.manifest), answer))
        if length > most + slack:
            raise Quarantined(f"update has norm {length:.3g}, was to be clipped to {most:.3g}")
        if self.level.adaptation and within is None:
            raise Quarantined("does not say whether its update was within the clip")
        if self.level.adaptation and not within and length < most - slack:
            raise Quarantined("says that it clipped an update that is shorter than the clip")

    def mean(
        self, round_: int, state: PeftState, answers: Mapping[str, PeftState], within: Mapping[str, bool | None]
    ) -> PeftState:
        """``state`` moved by the noised mean of the sites' updates. What that costs is counted, whatever becomes of it.

        Args:
            round_: of the run.
            state: what the sites were sent, or more.
            answers: vetted, by site; all of the same tensors.
            within: by site, what :meth:`vet` was given.

        Returns:
            The tensors of ``answers``.

        Raises:
            ValueError: sites sent different tensors.
        """
        manifest, *others = {answer.manifest for answer in answers.values()}
        if others:
            raise ValueError("With client-privacy all sites must send the same tensors.")
        start, count = state.only(manifest), len(answers)
        total, inside = self._sum(start, answers, within)
        std = self.level.noise_of_mean(self.clip, count)
        mean = {part: vector / count for part, vector in total.items()}
        if self.level.noise_at == "server":
            mean = noised(mean, std, self._randomness)
            self._pay(answers)
        share = self._noised_share(inside, count)
        self.rounds.append(PrivateRound(round_, tuple(sorted(answers)), self.clip, share, std))
        if self.level.adaptation:
            self.clip = self.level.adaptation.next_clip(self.clip, share)
        return PeftState(
            manifest, {part: (vector + mean[part]).astype(np.float32) for part, vector in start.vectors.items()}
        )

    def of_round(self, round_: int) -> PrivateRound | None:
        """What a round did; None where no mean was taken in it."""
        return next((record for record in self.rounds if record.round == round_), None)

    def summary(self) -> dict[str, Any]:
        """For ``summary.json`` and model card: epsilon of each site, by the rounds it has paid for, and the largest."""
        epsilons = {
            site: epsilon_of(self.level.noise, rounds, self.level.delta) for site, rounds in sorted(self._paid.items())
        }
        return {
            "unit": "site",
            "epsilon": max(epsilons.values(), default=0.0),
            "delta": self.level.delta,
            "noise_multiplier": self.level.noise,
            "clip_at": self.level.clip_at,
            "noise_at": self.level.noise_at,
            "clip": self.clip,
            "sites": {site: {"rounds": self._paid[site], "epsilon": value} for site, value in epsilons.items()},
        }

    def state(self) -> dict[str, Any]:
        """What a run that goes on later must know, as plain values."""
        return {"clip": self.clip, "paid": dict(self._paid), "rounds": [asdict(round_) for round_ in self.rounds]}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` gave; what was paid since then stays paid.

        Raises:
            ConfigError: what was paid since then is not known.
        """
        self.clip, self._paid = float(state["clip"]), Counter(state["paid"])
        self.rounds = [PrivateRound(**{**values, "sites": tuple(values["sites"])}) for values in state["rounds"]]
        if self._payments:
            # Of each site the larger count.
            self._paid |= Counter(self._payments.kept())

    def begin(self) -> None:
        """A run begins: nobody has paid, and it is on disk that nobody has."""
        if self._payments:
            self._payments.keep(self._paid)

    def _pay(self, sites: Iterable[str]) -> None:
        """Count a round of ``sites``, on disk before anything that costs it leaves the server."""
        self._paid.update(tuple(sites))
        if self._payments:
            self._payments.keep(self._paid)

    def _sum(
        self, start: PeftState, answers: Mapping[str, PeftState], within: Mapping[str, bool | None]
    ) -> tuple[dict[str, Exact], int]:
        """Of the updates, each at most as long as the clip; and how many of them were so as they came."""
        total: dict[str, Exact] = {part: np.zeros(len(vector)) for part, vector in start.vectors.items()}
        inside = 0
        for site in sorted(answers):
            delta = _difference(start, answers[site])
            if self.level.noise_at == "server":
                # Also where the site has clipped: it may overshoot by rounding, and the noise is for the clip itself.
                delta, fits = clip(delta, self.clip)
                inside += bool(within[site]) if self.level.clip_at == "site" else fits
            for part, vector in delta.items():
                total[part] += vector
        return total, inside

    def _noised_share(self, inside: int, count: int) -> float:
        """Of the updates within the clip; nan where nobody needs it, so that nothing is spent on it."""
        if self.level.adaptation is None:
            return math.nan
        return (inside + float(self._randomness.normal((1,), std=self.level.adaptation.bit_noise))) / count


def _difference(start: PeftState, answer: PeftState) -> dict[str, Exact]:
    return {part: answer.vectors[part].astype(np.float64) - vector for part, vector in start.vectors.items()}
