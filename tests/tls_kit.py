"""A certificate authority, a server's certificate and sites' keys, made in milliseconds: for tests on loopback only."""

from __future__ import annotations

import base64
import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from fedmedpeft.atomic_file import write_atomically


def make_server_kit(directory: Path, sites: tuple[str, ...] = ()) -> Path:
    """``ca.crt``, ``server.crt``, ``server.key``, ``superexec.secret``, and ``sites/NAME.pub`` with ``NAME.key``."""
    authority, authority_key = _certificate("test authority", None, None)
    server, server_key = _certificate("localhost", authority, authority_key)
    write_atomically(directory / "ca.crt", authority.public_bytes(Encoding.PEM))
    write_atomically(directory / "server.crt", server.public_bytes(Encoding.PEM))
    write_atomically(directory / "server.key", _pem(server_key), mode=0o600)
    write_atomically(directory / "superexec.secret", base64.b64encode(os.urandom(32)), mode=0o600)
    for site in sites:
        make_site_key(directory / "sites" / f"{site}.key")
    return directory


def make_site_key(path: Path) -> Path:
    """A private key as Flower wants it, and its public part beside it as ``.pub``."""
    key = ec.generate_private_key(ec.SECP384R1())
    write_atomically(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), mode=0o600)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    write_atomically(path.with_suffix(".pub"), public + b"\n")
    return path


def _certificate(
    name: str, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    addresses: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signer = (issuer_key or key).public_key()
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )
    return builder.sign(issuer_key or key, hashes.SHA256()), key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
