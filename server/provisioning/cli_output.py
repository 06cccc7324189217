"""What `fedmedpeft provision` prints."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from fedmedpeft.console_table import show_table
from server.provisioning.overview import Overview, overview


def show_kits(kits: Path, *, as_json: bool = False) -> bool:
    """Print what is known of ``kits``; True where something has ended or will soon."""
    found = overview(kits)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        _show_tables(found)
    for warning in found.warnings:
        typer.secho(f"Warning: {warning}", fg=typer.colors.YELLOW, err=True)
    return bool(found.warnings)


def show_key(name: str, fingerprint: str, spoken: str) -> None:
    """A site's key, to compare by telephone."""
    typer.echo(f"Site:         {name}")
    typer.echo(f"Fingerprint:  {fingerprint}")
    typer.echo(f"Read aloud:   {spoken}")


def show_server_steps(kits: Path, until_then: str) -> None:
    """What has to happen at the server after its list of keys has changed."""
    typer.echo(
        f"At the server: copy sites/ and revoked.json from '{kits / 'server'}' to its kit (remove what is gone), then\n"
        f"  fedmedpeft provision apply KIT\n{until_then}"
    )


def _show_tables(found: Overview) -> None:
    for certificate in found.certificates:
        typer.echo(f"Certificate of the {certificate.whose}, SHA-256: {certificate.fingerprint}")
        names = f", for {', '.join(certificate.names)}" if certificate.names else ""
        typer.echo(f"  ends {certificate.ends[:10]} (in {certificate.days_left} days){names}")
    show_table(
        f"Sites of {found.federation}, which dial {found.address}",
        ("site", "fingerprint of its key", "read aloud", "key made", "since"),
        [(site.name, site.fingerprint, site.spoken, _MADE[site.key_made], site.since[:10]) for site in found.sites],
        numbers_from=5,
    )
    if found.revoked:
        rows = [(key.name, key.fingerprint, key.reason, key.when[:10]) for key in found.revoked]
        show_table("Revoked keys", ("site", "fingerprint", "reason", "when"), rows, numbers_from=4)


_MADE = {"site": "at the site", "here": "with the kit"}
