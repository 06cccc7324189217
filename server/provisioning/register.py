"""The coordinator's register: who may take part with which key, and which keys never may again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError

from fedmedpeft.atomic_file import write_atomically
from fedmedpeft.components import ConfigError, Options, explain, suggest
from fedmedpeft.site_identity import fingerprint, read_public_key, spoken_fingerprint
from server.provisioning.federation_file import ServerEntry, Validity

REGISTER = "register.json"
_OWNER_ONLY = 0o600


class SiteRecord(Options):
    """A site that takes part.

    Attributes:
        public_key: one line, as OpenSSH writes it.
        key_made: at the site itself, or here with the kit.
        since: when this key was taken up, UTC, ISO 8601.
    """

    name: str
    public_key: str
    key_made: Literal["site", "here"]
    since: str

    @property
    def fingerprint(self) -> str:
        return fingerprint(read_public_key(self.public_key))

    @property
    def spoken(self) -> str:
        return spoken_fingerprint(read_public_key(self.public_key))


class RevokedKey(Options):
    """A key that must be unregistered at the server. Flower never takes it again, and neither does this register."""

    name: str
    public_key: str
    reason: str
    when: str


class Register(Options):
    """``register.json`` beside the kits. Nothing in it is secret; whoever can write it decides who takes part."""

    version: Literal[1] = 1
    name: str
    server: ServerEntry
    validity: Validity
    install: str
    sites: list[SiteRecord] = Field(default_factory=list)
    revoked: list[RevokedKey] = Field(default_factory=list)

    @classmethod
    def load(cls, root: Path) -> Self:
        """The one of the kits in ``root``. Raises ConfigError where there is none, or it has been damaged."""
        path = root / REGISTER
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"'{root}' holds no kits: '{path}' cannot be read ({error.strerror}). Name the directory that "
                "`fedmedpeft provision new` made."
            ) from None
        except ValidationError as error:
            raise ConfigError(f"'{path}' is damaged: {explain(error)}. Restore it from a backup.") from None

    def save(self, root: Path) -> None:
        write_atomically(root / REGISTER, self.model_dump_json(indent=2) + "\n", _OWNER_ONLY)

    def site(self, name: str) -> SiteRecord:
        """The record of ``name``. Raises ConfigError where no such site takes part."""
        for site in self.sites:
            if site.name == name:
                return site
        known = [site.name for site in self.sites]
        raise ConfigError(f"No site is called '{name}'.{suggest(name, known)} Known: {', '.join(known) or 'none'}.")

    def check_new(self, name: str, public_key: str) -> None:
        """Whether a key may be taken up for ``name``. Raises ConfigError where it is in use or was revoked."""
        for key in self.revoked:
            if key.public_key == public_key:
                raise ConfigError(
                    f"The key of '{name}' was revoked on {key.when[:10]} ('{key.name}': {key.reason}), and Flower "
                    "never takes a key again. The site has to make a new one: `fedmedpeft site join-request`."
                )
        for site in self.sites:
            if site.public_key == public_key:
                raise ConfigError(f"The key of '{name}' is in use by '{site.name}' already. Each site needs its own.")

    def with_site(self, record: SiteRecord) -> Self:
        """With ``record``, in the place of the one of the same name."""
        others = [site for site in self.sites if site.name != record.name]
        return self.model_copy(update={"sites": sorted([*others, record], key=lambda site: site.name)})

    def without_key(self, record: SiteRecord, reason: str) -> Self:
        """With ``record``'s site gone and its key revoked."""
        revoked = RevokedKey(name=record.name, public_key=record.public_key, reason=reason, when=utc_now())
        others = [site for site in self.sites if site.name != record.name]
        return self.model_copy(update={"sites": others, "revoked": [*self.revoked, revoked]})


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
