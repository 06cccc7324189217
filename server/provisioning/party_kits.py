"""What lies in the kit of each party. Pure: names and contents, nothing on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable

from cryptography import x509

from fedmedpeft import __version__
from fedmedpeft.site_identity import PrivateKey, private_key_text
from server.provisioning.authority import Authority, ServerCertificate, certificate_fingerprint
from server.provisioning.register import Register, RevokedKey, SiteRecord
from server.provisioning.rendering import render


def authority_kit(authority: Authority, register: Register) -> dict[str, bytes]:
    """What stays with the coordinator."""
    fingerprint = certificate_fingerprint(authority.certificate)
    readme = render(
        "authority/README.md", register=register, fingerprint=fingerprint, end=authority.certificate.not_valid_after_utc
    )
    return {"ca.key": authority.key_text, "ca.crt": authority.certificate_text, "README.md": readme}


def server_kit(
    register: Register, authority_certificate: bytes, certificate: ServerCertificate, secret: bytes
) -> dict[str, bytes]:
    """What goes to the machine of the server.

    Args:
        authority_certificate: PEM.
        secret: that SuperLink and SuperExec share.
    """
    values = _values(register, authority_certificate)
    kit = {
        "ca.crt": authority_certificate,
        "server.crt": certificate.chain,
        "server.key": certificate.key,
        "superexec.secret": secret,
        "revoked.json": revoked_file(register.revoked),
        "server.yaml": render("server/server.yaml", **values),
        "start.sh": render("server/start.sh", **values),
        "systemd/fedmedpeft-server.service": render("server/fedmedpeft-server.service", **values),
        "README.md": render("server/README.md", **values),
    }
    if register.server.proxy:
        kit["nginx/fedmedpeft.conf"] = render("server/nginx.conf", **values)
    public_keys = {public_key_file(site.name): public_key_content(site) for site in register.sites}
    return kit | _container_files("server", values) | public_keys


def site_kit(
    register: Register, authority_certificate: bytes, site: SiteRecord, key: PrivateKey | None
) -> dict[str, bytes]:
    """What goes to one hospital; without a private key where the hospital made its own."""
    values = _values(register, authority_certificate) | {"site": site}
    kit = {
        "ca.crt": authority_certificate,
        "site.yaml": render("site/site.yaml", **values),
        "start.sh": render("site/start.sh", **values),
        "systemd/fedmedpeft-site.service": render("site/fedmedpeft-site.service", **values),
    }
    return kit | _container_files("site", values) | site_key_files(register, authority_certificate, site, key)


def site_key_files(
    register: Register, authority_certificate: bytes, site: SiteRecord, key: PrivateKey | None
) -> dict[str, bytes]:
    """The part of a site's kit that changes with its key."""
    values = _values(register, authority_certificate) | {"site": site}
    kit = {"site.pub": public_key_content(site), "README.md": render("site/README.md", **values)}
    return kit if key is None else kit | {"site.key": private_key_text(key)}


def public_key_file(name: str) -> str:
    """Where a site's public key lies in the server's kit; the stem is the site's name."""
    return f"sites/{name}.pub"


def public_key_content(site: SiteRecord) -> bytes:
    return f"{site.public_key}\n".encode()


def revoked_file(revoked: Iterable[RevokedKey]) -> bytes:
    """The keys that the server has to unregister, as JSON."""
    return (json.dumps([key.model_dump() for key in revoked], indent=2, ensure_ascii=False) + "\n").encode()


def _container_files(role: str, values: dict[str, object]) -> dict[str, bytes]:
    """How to build and start a container; ``role`` is what the kit's directory is called once installed."""
    names = ("Containerfile", "run.sh")
    return {f"container/{name}": render(f"container/{name}", role=role, **values) for name in names}


def _values(register: Register, authority_certificate: bytes) -> dict[str, object]:
    certificate = x509.load_pem_x509_certificate(authority_certificate)
    return {"register": register, "ca_fingerprint": certificate_fingerprint(certificate), "program": __version__}
