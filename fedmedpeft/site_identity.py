"""How a site proves who it is: an elliptic-curve key pair, fingerprints to compare, and the request to join.

Flower's SuperNode signs its messages with a key of the curve P-384 in OpenSSH's format. Where the site makes that key
itself, the private half never leaves it: what travels is a join request, signed with the key that it is about.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedmedpeft.components import ConfigError
from fedmedpeft.site_names import RULE, is_site_name

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey

_KIND = "fedmedpeft join request"
_VERSION = 1
_MOST_BYTES = 20_000
_HOW_TO_MAKE = "`fedmedpeft site join-request` makes one"
_SPOKEN_GROUPS = 8


def make_private_key() -> PrivateKey:
    """A new key of the curve P-384 (Flower takes no Ed25519)."""
    return ec.generate_private_key(ec.SECP384R1())


def private_key_text(key: PrivateKey) -> bytes:
    """``key`` in OpenSSH's format, without a passphrase: a service has to start without anyone there."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def public_key_line(key: PublicKey) -> str:
    """``key`` as OpenSSH writes it, ``ecdsa-sha2-nistp384 AAAA...``, without comment or line break."""
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def read_public_key(line: str) -> PublicKey:
    """The key of one line in OpenSSH's format.

    Raises:
        ConfigError: it is none, or of another kind than P-384.
    """
    try:
        key = serialization.load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"'{line[:40]}' is not a public key in OpenSSH's format ({error}). {_expected()}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ConfigError(f"'{line[:40]}' is a key of another kind. {_expected()}")
    return key


def read_private_key(path: Path) -> PrivateKey:
    """The private key in ``path``, after a look at who else may read it.

    Raises:
        ConfigError: others may read it, it cannot be read, has a passphrase, or is of another kind than P-384.
    """
    try:
        mode, content = path.stat().st_mode & 0o777, path.read_bytes()
    except OSError as error:
        raise ConfigError(f"Private key '{path}' cannot be read: {error.strerror}.") from None
    if mode & 0o077:
        raise ConfigError(f"Private key '{path}' has mode {mode:04o}: others may read it. Mend it: chmod 600 '{path}'")
    try:
        key = serialization.load_ssh_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(
            f"Private key '{path}' is not in OpenSSH's format, or has a passphrase. {_expected()}"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ConfigError(f"Private key '{path}' is of another kind. {_expected()}")
    return key


def fingerprint(key: PublicKey) -> str:
    """``SHA256:...``, the same that ``ssh-keygen -lf`` shows."""
    return "SHA256:" + base64.b64encode(_digest(key)).decode().rstrip("=")


def spoken_fingerprint(key: PublicKey) -> str:
    """The first 128 bits of the same hash in groups of four hexadecimal digits, to be read out over the telephone."""
    digits = _digest(key).hex()
    return " ".join(digits[4 * group : 4 * group + 4] for group in range(_SPOKEN_GROUPS))


@dataclass(frozen=True)
class JoinRequest:
    """What a site sends to the coordinator to take part: its name and public key, signed with the private one.

    Attributes:
        made: when, UTC, ISO 8601.
        versions: of the programs at the site, by name.
        signature: of all other fields, base64: whoever made the request has the private key, and no field has changed.
    """

    name: str
    public_key: str
    fingerprint: str
    made: str
    versions: dict[str, str]
    signature: str = ""

    @classmethod
    def make(cls, name: str, key: PrivateKey) -> Self:
        """A signed request. Raises ConfigError where ``name`` cannot be a site's."""
        if not is_site_name(name):
            raise ConfigError(f"Site name '{name}' must be {RULE}.")
        public = key.public_key()
        made = datetime.now(UTC).isoformat(timespec="seconds")
        request = cls(name, public_key_line(public), fingerprint(public), made, _versions())
        signature = key.sign(request._signed(), ec.ECDSA(hashes.SHA384()))
        return replace(request, signature=base64.b64encode(signature).decode())

    @classmethod
    def read(cls, path: Path) -> Self:
        """The request in ``path``, verified.

        Raises:
            ConfigError: it cannot be read, is none, or its fingerprint or signature does not fit its key.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"Join request '{path}' cannot be read: {error.strerror}.") from None
        if b"PRIVATE KEY" in content:
            raise ConfigError(
                f"'{path}' holds a private key, which must not leave its site: the site has to make a new key. What "
                "it sends is join-request.json."
            )
        request = cls._parsed(content, path)
        request._verify(path)
        return request

    @classmethod
    def _parsed(cls, content: bytes, path: Path) -> Self:
        wrong = ConfigError(f"'{path}' is not a join request; {_HOW_TO_MAKE}.")
        if len(content) > _MOST_BYTES:
            raise wrong
        try:
            fields: dict[str, Any] = json.loads(content)
            kind, number = fields.pop("kind"), fields.pop("version")
            request = cls(**fields)
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            raise wrong from None
        texts = [value for name, value in asdict(request).items() if name != "versions"]
        if kind != _KIND or not all(isinstance(text, str) for text in texts) or not isinstance(request.versions, dict):
            raise wrong
        if number != _VERSION:
            raise ConfigError(
                f"Join request '{path}' is of version {number}; this program reads version {_VERSION}. Install the "
                "same fedmedpeft at both ends."
            )
        return request

    def text(self) -> str:
        """As it lies in ``join-request.json``."""
        return json.dumps(self._labelled(), indent=2, ensure_ascii=False) + "\n"

    def _verify(self, path: Path) -> None:
        if not is_site_name(self.name):
            raise ConfigError(f"Join request '{path}': name '{self.name}' must be {RULE}.")
        key = read_public_key(self.public_key)
        if self.fingerprint != fingerprint(key):
            raise ConfigError(f"Join request '{path}': the fingerprint is not that of its key. Ask for it once more.")
        try:
            key.verify(base64.b64decode(self.signature, validate=True), self._signed(), ec.ECDSA(hashes.SHA384()))
        except (InvalidSignature, ValueError):
            raise ConfigError(
                f"Join request '{path}' has changed since it was signed, or was signed with another key. Ask the site "
                "for it once more, and compare fingerprints by telephone."
            ) from None

    def _labelled(self) -> dict[str, Any]:
        return {"kind": _KIND, "version": _VERSION, **asdict(self)}

    def _signed(self) -> bytes:
        fields = {name: value for name, value in self._labelled().items() if name != "signature"}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def _digest(key: PublicKey) -> bytes:
    return hashlib.sha256(base64.b64decode(public_key_line(key).split()[1])).digest()


def _expected() -> str:
    return f"Expected: elliptic curve P-384 (ecdsa-sha2-nistp384), no passphrase; {_HOW_TO_MAKE}."


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("fedmedpeft", "flwr"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
