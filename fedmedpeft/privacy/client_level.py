"""Differential privacy of whole sites, as a run configures it: clipped updates, and noise on the mean of a round.

What is protected is all that one site contributed: the run against the same run with zeros in place of its updates. Who
took part is public. So asking only some sites in a round costs each of them less only in that it takes part less often.
Amplification by sampling would need a draw that nobody learns; here it follows from the run's seed and is in sites.csv.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from fedmedpeft.components import ComponentSpec, ConfigError, NoOptions, Options, Registry
from fedmedpeft.privacy.terms import LEAST_NOISE, MOST_NOISE

Place = Literal["server", "site"]

DELTA = 1e-5
"""Where none is set. With probability delta a mechanism may give one site away altogether. What is usual for records,
"below 1 / their number", would allow that in one run of five with 5 sites, and no site accepts that, however few."""
LEAST_CLIP, LARGEST_CLIP = 1e-6, 1e6
"""Between which an adaptive clip stays: noise on what it is steered by may not let it vanish, or grow without end."""
_LONGEST_STEP = math.log(LARGEST_CLIP / LEAST_CLIP)
FEWEST_SITES = 2
"""In a round. The mean of one update is that update."""
_LEAST_BIT_NOISE = 0.51
"""Relative to noise: at half of it the bits alone cost all of a round's budget."""
_BIT_SHARE = 0.1
"""Of the budget of a round, in 1 / noise^2: what the bits of an adaptive clip get by default."""


class _ClientOptions(Options):
    noise: float = Field(
        1.0,
        ge=LEAST_NOISE,
        le=MOST_NOISE,
        description="noise multiplier of a round: standard deviation on the sum of all updates, relative to the clip",
    )
    clip_at: Place = Field("server", description="who clips: the server, or each site, and the server checks")
    delta: float = Field(0.0, ge=0, le=1e-3, description=f"delta of the reported epsilon; 0: {DELTA}")


class FixedOptions(_ClientOptions):
    """One clip for all rounds (McMahan et al., ICLR 2018)."""

    clip: float = Field(1.0, ge=LEAST_CLIP, le=LARGEST_CLIP, description="largest norm of a site's update")
    noise_at: Place = Field(
        "server", description="who adds noise: the server, or each site to its own update, which trusts nobody"
    )

    @model_validator(mode="after")
    def _sites_clip_what_they_noise(self) -> Self:
        if self.noise_at == "site" and self.clip_at != "site":
            raise ValueError(
                "noise_at='site' hides the update from the server, which then cannot clip it: set clip_at='site' too"
            )
        return self


class AdaptiveOptions(_ClientOptions):
    """A clip that follows a quantile of the updates' norms (Andrew et al., NeurIPS 2021).

    ``noise`` is of updates and bits together: what a round costs is the same as with a fixed clip.
    """

    clip: float = Field(0.1, ge=LEAST_CLIP, le=LARGEST_CLIP, description="clip of the first round")
    quantile: float = Field(0.5, gt=0, lt=1, description="share of the updates that the clip shall leave as they are")
    rate: float = Field(0.2, gt=0, le=10, description="how fast the clip's logarithm moves")
    bit_noise: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="standard deviation on the number of updates within the clip; 0: a tenth of the budget",
    )

    @model_validator(mode="after")
    def _bits_leave_something_to_the_updates(self) -> Self:
        least = _LEAST_BIT_NOISE * self.noise
        if 0 < self.bit_noise < least:
            raise ValueError(
                f"bit_noise={self.bit_noise:g} takes up what noise={self.noise:g} allows: set it to {least:g} or more, "
                "or to 0"
            )
        return self


@dataclass(frozen=True)
class Adaptation:
    """How a clip moves. ``bit_noise``: standard deviation on the count of updates within it."""

    quantile: float
    rate: float
    bit_noise: float

    def next_clip(self, clip: float, within: float) -> float:
        """The next round's clip: larger where fewer updates than the quantile were within, smaller where more were.

        Args:
            clip: of this round.
            within: noised share of its updates that were within it; not clamped, so that it is right on average.
        """
        # The exponent first: a share noised far out of [0, 1] must not overflow.
        moved = min(max(-self.rate * (within - self.quantile), -_LONGEST_STEP), _LONGEST_STEP)
        return min(max(clip * math.exp(moved), LEAST_CLIP), LARGEST_CLIP)


@dataclass(frozen=True)
class ClientLevel:
    """What a run does.

    Attributes:
        clip: largest norm of an update over all its tensors; with ``adaptation`` in the first round.
        noise: noise multiplier of all that a round releases, which is what epsilon is computed from.
        update_noise: noise multiplier of the updates alone.
        clip_at: who clips.
        noise_at: who adds noise.
        delta: of epsilon.
        adaptation: how the clip moves; None: it does not.
    """

    clip: float
    noise: float
    update_noise: float
    clip_at: Place
    noise_at: Place
    delta: float
    adaptation: Adaptation | None = None

    def noise_of_mean(self, clip: float, sites: int) -> float:
        """Standard deviation of each number of the mean of ``sites`` updates, in the units of ``clip``."""
        return self.update_noise * clip / (sites if self.noise_at == "server" else math.sqrt(sites))

    def agreed_clip(self, asked: float) -> float:
        """``asked`` of a site by the server, which must fit the run's configuration.

        Raises:
            ConfigError: it does not. The message may be shown to the server.
        """
        if self.adaptation is None and asked != self.clip:
            raise ConfigError(f"the server asks for a clip of {asked:g}, client-privacy says {self.clip:g}")
        if not LEAST_CLIP <= asked <= LARGEST_CLIP:
            raise ConfigError(f"the server asks for a clip of {asked:g}, outside {LEAST_CLIP:g} to {LARGEST_CLIP:g}")
        return asked


CLIENT_PRIVACY: Registry[ClientLevel | None] = Registry("client-privacy")


@CLIENT_PRIVACY.register("off")
def _off(options: NoOptions) -> None:
    return None


@CLIENT_PRIVACY.register("fixed", FixedOptions)
def _fixed(options: FixedOptions) -> ClientLevel:
    noise, delta = options.noise, options.delta or DELTA
    return ClientLevel(options.clip, noise, noise, options.clip_at, options.noise_at, delta)


@CLIENT_PRIVACY.register("adaptive", AdaptiveOptions)
def _adaptive(options: AdaptiveOptions) -> ClientLevel:
    bit_noise = options.bit_noise or options.noise / (2 * math.sqrt(_BIT_SHARE))
    adaptation = Adaptation(options.quantile, options.rate, bit_noise)
    update_noise = _beside_bits(options.noise, bit_noise)
    delta = options.delta or DELTA
    return ClientLevel(options.clip, options.noise, update_noise, options.clip_at, "server", delta, adaptation)


def client_level(spec: ComponentSpec | str) -> ClientLevel | None:
    """What ``client-privacy`` says; None where it is off. Raises ConfigError for an unknown kind or option."""
    return CLIENT_PRIVACY.build(spec)


def _beside_bits(noise: float, bit_noise: float) -> float:
    """Noise multiplier of the updates with which they and the bits together have ``noise``.

    Both are Gaussian, so 1 / noise^2 adds up. A site's bit counts as +-1/2 and its absence as 0: a sensitivity of 1/2.
    """
    return 1 / math.sqrt(noise**-2 - (2 * bit_noise) ** -2)
