"""What a site gives back of what it trained: clipped and noised where the run protects whole sites at the site."""

from __future__ import annotations

from fedmedpeft.components import ConfigError
from fedmedpeft.config import RunConfig
from fedmedpeft.exchange import PeftState, Refusal, SiteError
from fedmedpeft.privacy.client_level import client_level
from fedmedpeft.privacy.client_update import protect
from fedmedpeft.privacy.randomness import Randomness


def outgoing(
    config: RunConfig, asked: float, received: PeftState, trained: PeftState, randomness: Randomness
) -> tuple[PeftState, bool | None]:
    """The state that leaves, and whether its update was within the clip, where an adaptive clip asks for that.

    Args:
        config: of the run; the site does what it says, whatever the server asks for.
        asked: the clip that the server names; 0: none.
        received: the whole state that came.
        trained: some of its tensors, trained.
        randomness: of the site's noise.

    Raises:
        SiteError: the server asks for another clip than the configuration allows.
    """
    sent = received.only(trained.manifest).vectors
    try:
        vectors, within = protect(client_level(config.client_privacy), asked, sent, trained.vectors, randomness)
    except ConfigError as error:
        raise SiteError(Refusal.CONFIGURATION, str(error)) from error
    return PeftState(trained.manifest, vectors), within


def noises_sites(config: RunConfig) -> bool:
    """Whether sites noise their own updates, so that nothing else of their training may leave them."""
    level = client_level(config.client_privacy)
    return level is not None and level.noise_at == "site"
