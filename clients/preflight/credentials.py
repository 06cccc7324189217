"""The site's key and the authority's certificate, as far as they can be judged without the server."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from clients.preflight.check import Result, failed, passed, warned
from clients.preflight.facts import Facts
from clients.preflight.files import owner_of
from fedmedpeft.site_identity import fingerprint

DAYS_OF_WARNING = 30
_MAKE = "Make one with `fedmedpeft site join-request`, and send its request to the coordinator."


def check_authority(facts: Facts) -> Result:
    """``server.ca-certificate``: PEM, of an authority, not expired."""
    path = facts.site.path(facts.site.server.ca_certificate)
    ask = "Ask the coordinator for the federation's CA certificate (PEM) and compare its fingerprint by telephone."
    try:
        content = path.read_bytes()
    except OSError as error:
        return failed(
            f"'server.ca-certificate' cannot be read ({error.strerror}).", "Correct its path or mode.", str(path)
        )
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError:
        return failed("'server.ca-certificate' is no certificate in PEM.", ask, str(path))
    if b"PRIVATE KEY" in content:
        return failed("'server.ca-certificate' holds a private key.", "Tell the coordinator at once, and remove it.")
    root = certificates[0]
    if not _is_authority(root):
        return failed("'server.ca-certificate' is not of an authority (basic constraints: CA).", ask, str(path))
    print_ = root.fingerprint(SHA256()).hex(":")
    left = (root.not_valid_after_utc - datetime.now(UTC)).days
    if left < 0:
        return failed(f"the authority's certificate expired {-left} days ago.", ask, print_)
    if left < DAYS_OF_WARNING:
        return warned(f"the authority's certificate expires in {left} days.", ask, print_)
    return passed(f"the authority's certificate is good for {left} days.", f"SHA-256 {print_}")


def check_key(facts: Facts) -> Result:
    """``server.key``: what Flower takes (OpenSSH, P-384, no passphrase), and nobody else can read it."""
    path = facts.site.path(facts.site.server.key)
    try:
        content, about = path.read_bytes(), path.stat()
    except OSError as error:
        return failed(
            f"'server.key' cannot be read ({error.strerror}).", f"Correct its path or mode. {_MAKE}", str(path)
        )
    try:
        key = load_ssh_private_key(content, None)
    except TypeError:
        return failed(
            "'server.key' has a passphrase, which Flower cannot ask for.", f"Remove it, or: {_MAKE}", str(path)
        )
    except (ValueError, UnsupportedAlgorithm):
        return failed("'server.key' is no private key in OpenSSH's format.", _MAKE, str(path))
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP384R1):
        return failed("'server.key' is not of the elliptic curve P-384, which Flower asks for.", _MAKE, str(path))
    facts.key = key
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o077:
        return failed(
            f"others may read 'server.key' (mode {mode:04o}).",
            "chmod 0600. If others could have read it, make a new one and have this one revoked.",
            str(path),
        )
    if about.st_uid != os.geteuid():
        # Flower's user gets it through a pipe, and must not be able to read it.
        return failed(
            "'server.key' belongs to another user than this one.",
            "chown it to the user that starts the site, and give this command as that user.",
            owner_of(path),
        )
    return passed(f"the key is Flower's kind and nobody else's to read; fingerprint {fingerprint(key.public_key())}.")


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
