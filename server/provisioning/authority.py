"""The federation's own certificate authority, and the server's certificate that it signs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedmedpeft.components import ConfigError

BACKDATED = timedelta(hours=1)
"""Certificates begin earlier than they are made: a hospital's clock may be slow."""

_NAME_BYTES = 64
"""Upper bound of a common name (RFC 5280)."""


@dataclass(frozen=True)
class ServerCertificate:
    """The server's private key and its certificate followed by the authority's, as PEM."""

    key: bytes
    chain: bytes


@dataclass(frozen=True)
class Authority:
    """A certificate authority of one federation: it signs servers, and nothing below it may sign."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, federation: str, days: int, now: datetime | None = None) -> Self:
        """A new one, valid for ``days``."""
        key = ec.generate_private_key(ec.SECP384R1())
        name = _named(f"{federation} authority")
        now = now or datetime.now(UTC)
        builder = _builder(name, name, key.public_key(), now, now + timedelta(days=days))
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
            .sign(key, hashes.SHA384())
        )
        return cls(key, certificate)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The one in ``folder`` (``ca.key``, ``ca.crt``). Raises ConfigError where it is not there or does not fit."""
        try:
            key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        except OSError as error:
            raise ConfigError(
                f"The authority's '{error.filename}' cannot be read: {error.strerror}. If it lies on another medium, "
                "say where: --authority DIR."
            ) from None
        except (ValueError, TypeError):
            raise ConfigError(
                f"The authority in '{folder}' is unusable: ca.key or ca.crt is damaged, or the key has a passphrase. "
                "Restore both from the same backup."
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError(f"In '{folder}' ca.key does not belong to ca.crt. Restore both from the same backup.")
        return cls(key, certificate)

    @property
    def key_text(self) -> bytes:
        return private_text(self.key)

    @property
    def certificate_text(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign_server(
        self, federation: str, hosts: Sequence[str], days: int, now: datetime | None = None
    ) -> ServerCertificate:
        """A new key and its certificate for ``hosts`` (DNS names and IP addresses).

        Raises:
            ConfigError: the authority itself holds for less than ``days``.
        """
        now = now or datetime.now(UTC)
        end, last = now + timedelta(days=days), self.certificate.not_valid_after_utc
        if end > last:
            raise ConfigError(
                f"A certificate of {days} days would outlast the authority, which holds until {last:%Y-%m-%d}. Ask for "
                "fewer days (--days), or provision anew: every site then needs the new ca.crt."
            )
        key = ec.generate_private_key(ec.SECP384R1())
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        issuer = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            _builder(_named(f"{federation} server"), self.certificate.subject, key.public_key(), now, end)
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
            .sign(self.key, hashes.SHA384())
        )
        text = certificate.public_bytes(serialization.Encoding.PEM)
        return ServerCertificate(private_text(key), text + self.certificate_text)


def certificate_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 as ``openssl x509 -noout -fingerprint -sha256`` shows it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def private_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    """``key`` as PEM (PKCS #8), without a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now - BACKDATED).not_valid_after(end)


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_NAME_BYTES])])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What a key is for: signing certificates, or TLS handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
