"""Making kits, and what happens to them later: a site more, a new key, a key that must not be used again."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmedpeft.components import ConfigError
from fedmedpeft.file_lock import locked
from fedmedpeft.site_identity import JoinRequest, PrivateKey, make_private_key, public_key_line, read_public_key
from fedmedpeft.site_names import RULE, is_site_name
from server.provisioning import party_kits
from server.provisioning.authority import Authority
from server.provisioning.federation_file import FederationFile
from server.provisioning.kit_files import new_folder, update_kit, write_kit
from server.provisioning.register import Register, RevokedKey, SiteRecord, utc_now

AUTHORITY, SERVER, SITES, REVOKED = "authority", "server", "sites", "revoked"
_SECRET_BYTES = 32


def new_kits(file: FederationFile, directory: Path, out: Path) -> Register:
    """A whole federation's kits below ``out``: authority/, server/, sites/<name>/ and register.json.

    Args:
        directory: where relative paths of join requests start.

    Raises:
        ConfigError: ``out`` holds something already, or a join request does not fit its site.
    """
    register = Register(name=file.name, server=file.server, validity=file.validity, install=file.install)
    keys: dict[str, PrivateKey | None] = {}
    for entry in file.sites:
        request = JoinRequest.read(directory / entry.key) if entry.key else None
        record, keys[entry.name] = _new_record(register, entry.name, request)
        register = register.with_site(record)
    authority = Authority.make(file.name, file.validity.authority)
    certificate = authority.sign_server(file.name, file.server.names, file.validity.server)
    root = authority.certificate_text
    with new_folder(out) as part:
        write_kit(part / AUTHORITY, party_kits.authority_kit(authority, register))
        write_kit(part / SERVER, party_kits.server_kit(register, root, certificate, _secret()))
        for site in register.sites:
            write_kit(part / SITES / site.name, party_kits.site_kit(register, root, site, keys[site.name]))
        register.save(part)
    return register


def add_site(root: Path, name: str, request: JoinRequest | None = None) -> SiteRecord:
    """A kit for one more site; without a private key where ``request`` brings the public one.

    Raises:
        ConfigError: the site takes part already, its key is in use or revoked, or ``request`` is another site's.
    """
    with _changing(root):
        register = Register.load(root)
        if any(site.name.casefold() == name.casefold() for site in register.sites):
            raise ConfigError(f"Site '{name}' takes part already. For a new key: `fedmedpeft provision rotate`.")
        record, key = _new_record(register, name, request)
        register = register.with_site(record)
        with new_folder(root / SITES / name) as part:
            write_kit(part, party_kits.site_kit(register, _root_certificate(root), record, key))
        update_kit(root / SERVER, {party_kits.public_key_file(name): party_kits.public_key_content(record)})
        # The last step: until then the same command can be given again, once the kit of this try is removed.
        register.save(root)
    return record


def rotate_site(root: Path, name: str, request: JoinRequest | None = None) -> tuple[SiteRecord, RevokedKey]:
    """A new key for a site; the old one goes on the list of those to unregister.

    Raises:
        ConfigError: no such site, or the key of ``request`` is in use, revoked, or another site's.
    """
    with _changing(root):
        register = Register.load(root)
        old = register.site(name)
        if request is None and old.key_made == "site":
            raise ConfigError(
                f"Site '{name}' makes its keys itself. Ask it for a new join request (`fedmedpeft site join-request` "
                "in an empty directory), and give it with --request."
            )
        record, key = _new_record(register, name, request)
        register = register.without_key(old, "replaced by a new key").with_site(record)
        files = party_kits.site_key_files(register, _root_certificate(root), record, key)
        update_kit(root / SITES / name, files, removed=("site.key",) if key is None else ())
        _update_server(root, register, {party_kits.public_key_file(name): party_kits.public_key_content(record)})
        register.save(root)
    return record, register.revoked[-1]


def revoke_site(root: Path, name: str, reason: str) -> RevokedKey:
    """A site takes part no longer: its key goes on the list of those to unregister, and its kit out of the way.

    Raises:
        ConfigError: no such site.
    """
    with _changing(root):
        register = Register.load(root)
        register = register.without_key(register.site(name), reason)
        _update_server(root, register, {}, removed=(party_kits.public_key_file(name),))
        register.save(root)
        kit = root / SITES / name
        if kit.is_dir():
            (root / REVOKED).mkdir(exist_ok=True, mode=0o700)
            kit.replace(root / REVOKED / f"{name} {utc_now().replace(':', '')[:17]}-{secrets.token_hex(2)}")
    return register.revoked[-1]


def rotate_server(root: Path, authority_folder: Path, days: int | None = None) -> None:
    """A new TLS key and certificate for the server, signed by the same authority: sites need nothing new.

    Raises:
        ConfigError: the authority cannot be read, is another federation's, or ends earlier.
    """
    with _changing(root):
        register, authority = Register.load(root), Authority.load(authority_folder)
        if authority.certificate_text != _root_certificate(root):
            raise ConfigError(
                f"'{authority_folder}' is not the authority of '{root}': their ca.crt differ, and sites would refuse "
                "the server."
            )
        days = register.validity.server if days is None else days
        certificate = authority.sign_server(register.name, register.server.names, days)
        update_kit(root / SERVER, {"server.key": certificate.key, "server.crt": certificate.chain})


def _new_record(register: Register, name: str, request: JoinRequest | None) -> tuple[SiteRecord, PrivateKey | None]:
    """A checked record of ``name`` and, where it was made here, its private key."""
    if not is_site_name(name):
        raise ConfigError(f"Site name '{name}' must be {RULE}.")
    if request is None:
        key = make_private_key()
        line = public_key_line(key.public_key())
        return SiteRecord(name=name, public_key=line, key_made="here", since=utc_now()), key
    if request.name != name:
        raise ConfigError(f"The join request is that of '{request.name}', not of '{name}'. Was a file mixed up?")
    line = public_key_line(read_public_key(request.public_key))
    register.check_new(name, line)
    return SiteRecord(name=name, public_key=line, key_made="site", since=utc_now()), None


def _update_server(root: Path, register: Register, files: dict[str, bytes], removed: tuple[str, ...] = ()) -> None:
    revoked = {"revoked.json": party_kits.revoked_file(register.revoked)}
    update_kit(root / SERVER, files | revoked, removed=removed)


def _root_certificate(root: Path) -> bytes:
    path = root / SERVER / "ca.crt"
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"The server's kit is not complete: '{path}' cannot be read ({error.strerror}).") from None


def _secret() -> bytes:
    """32 random bytes as base64, without a line break: Flower reads the file byte for byte."""
    return base64.b64encode(secrets.token_bytes(_SECRET_BYTES))


@contextmanager
def _changing(root: Path) -> Iterator[None]:
    """One command at a time changes these kits. Raises ConfigError where there are none, or another is at it."""
    Register.load(root)
    try:
        with locked(root / ".lock", wait=False):
            yield
    except BlockingIOError:
        raise ConfigError(f"Another `fedmedpeft provision` is changing '{root}'. Try again when it is done.") from None
