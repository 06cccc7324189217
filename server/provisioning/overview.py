"""What `fedmedpeft provision show` tells: who takes part, which fingerprints to compare, and what ends soon."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fedmedpeft.components import ConfigError
from fedmedpeft.site_identity import fingerprint, read_public_key
from server.provisioning.authority import certificate_fingerprint
from server.provisioning.kits import SERVER
from server.provisioning.register import Register

WARN_DAYS = 30


@dataclass(frozen=True)
class CertificateFacts:
    """One certificate: of the authority or of the server."""

    whose: str
    fingerprint: str
    names: tuple[str, ...]
    ends: str
    days_left: int


@dataclass(frozen=True)
class SiteFacts:
    """One site that takes part."""

    name: str
    fingerprint: str
    spoken: str
    key_made: str
    since: str


@dataclass(frozen=True)
class RevokedFacts:
    """One key that must not be used again."""

    name: str
    fingerprint: str
    reason: str
    when: str


@dataclass(frozen=True)
class Overview:
    """All of it; ``warnings`` are sentences that say what to do."""

    federation: str
    address: str
    certificates: tuple[CertificateFacts, ...]
    sites: tuple[SiteFacts, ...]
    revoked: tuple[RevokedFacts, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def overview(root: Path, now: datetime | None = None) -> Overview:
    """Facts about the kits in ``root``. Raises ConfigError where there are none, or a certificate cannot be read."""
    register, now = Register.load(root), now or datetime.now(UTC)
    authority = _certificate(root / SERVER / "ca.crt")
    server = _certificate(root / SERVER / "server.crt")
    certificates = (_facts("authority", authority, now), _facts("server", server, now))
    return Overview(
        federation=register.name,
        address=register.server.address,
        certificates=certificates,
        sites=tuple(
            SiteFacts(site.name, site.fingerprint, site.spoken, site.key_made, site.since) for site in register.sites
        ),
        revoked=tuple(
            RevokedFacts(key.name, fingerprint(read_public_key(key.public_key)), key.reason, key.when)
            for key in register.revoked
        ),
        warnings=(*_ending(certificates), *_mismatch(root, server)),
    )


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"'{path}' is no certificate: {error}.") from None


def _facts(whose: str, certificate: x509.Certificate, now: datetime) -> CertificateFacts:
    names: tuple[str, ...] = ()
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = tuple(str(name.value) for name in extension.value)
    end = certificate.not_valid_after_utc
    return CertificateFacts(
        whose, certificate_fingerprint(certificate), names, end.isoformat(timespec="seconds"), (end - now).days
    )


def _ending(certificates: tuple[CertificateFacts, ...]) -> list[str]:
    cures = {
        "server": "`fedmedpeft provision rotate KITS --server` renews it; sites need nothing new",
        "authority": "every party needs new kits: `fedmedpeft provision new`",
    }
    return [
        f"The certificate of the {facts.whose} {'has ended' if facts.days_left < 0 else 'ends'} on {facts.ends[:10]}: "
        f"{cures[facts.whose]}."
        for facts in certificates
        if facts.days_left < WARN_DAYS
    ]


def _mismatch(root: Path, server: x509.Certificate) -> list[str]:
    """Where the key in the server's kit is of another certificate; none where the key has been taken away."""
    path = root / SERVER / "server.key"
    if not path.is_file():
        return []
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if key.public_key() == server.public_key():
        return []
    return [f"'{path}' does not belong to server.crt: a renewal was interrupted. Give `rotate --server` once more."]
