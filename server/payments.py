"""What sites have paid in privacy of whole sites, on disk before anything that costs it leaves the server.

It stands beside the checkpoints and not in them: a run may go on from an older checkpoint, but what was paid after that
stays paid. A round that a resumed run repeats is counted again, as its noise is new; so a server that was killed may
have counted a round that nobody saw, and never has one too few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedmedpeft.components import ConfigError
from server.sealed_file import DamagedFile, read_sealed, write_sealed


@dataclass(frozen=True)
class Payments:
    """Rounds that each site has paid for, in the file ``path``."""

    path: Path

    def keep(self, paid: Mapping[str, int]) -> None:
        """Replace what is there; on disk when this returns."""
        write_sealed(self.path, dict(paid))

    def kept(self) -> dict[str, int]:
        """What is there.

        Raises:
            ConfigError: it is gone or damaged.
        """
        try:
            return {str(site): int(rounds) for site, rounds in read_sealed(self.path).items()}
        except DamagedFile as reason:
            raise ConfigError(
                f"'{self.path}' cannot be used ({reason}): what the sites have paid in privacy is not known, so the "
                "run cannot go on. Restore the file from a backup, or start a new run: leave resume empty."
            ) from None
